"""Streams are declared once and attested ever after."""

from __future__ import annotations

from typing import Any

import pytest

from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError, StreamMissing, Unavailable
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.jetstream import streams
from fleetlog.bus.jetstream.connection import ApiError, ApiRefusal, Connection, connect
from fleetlog.bus.jetstream.streams import ensure_streams, log_config, require_stream
from fleetlog.bus.system import SystemClock

CLOCK = SystemClock()


async def test_streams_are_made_once_and_hold_what_the_design_needs(
    server: EmbeddedServer, fleet: str
) -> None:
    async with connect(server.target, CLOCK) as connection:
        assert await ensure_streams(connection, fleet) == 1
        assert await ensure_streams(connection, fleet) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("deny_delete", False),
        ("allow_atomic", False),
        ("allow_direct", False),
        ("discard", "old"),
        ("max_msgs_per_subject", 1),
        ("max_age", 3_600_000_000_000),
        ("storage", "memory"),
        ("allow_rollup_hdrs", True),
        ("allow_msg_ttl", True),
        ("subjects", ["fleetlog.{fleet}.task.>"]),
    ],
)
async def test_a_log_with_a_wrong_setting_is_refused_and_the_setting_named(
    server: EmbeddedServer, fleet: str, setting: str, value: object
) -> None:
    if isinstance(value, list):
        value = [each.format(fleet=fleet) for each in value]
    config = log_config(fleet, 1) | {setting: value}
    async with connect(server.target, CLOCK) as connection:
        await connection.request(f"$JS.API.STREAM.CREATE.{config['name']}", config)
        with pytest.raises(ConfigError, match=setting):
            await ensure_streams(connection, fleet)


class Young:
    """A server that says so many times what a cluster says of nodes that have just started."""

    def __init__(self, connection: Connection, refusals: int) -> None:
        self._connection = connection
        self.refusals_left = refusals

    async def ask(self, subject: str, payload: object, kind: type[Any]) -> Any:
        if "STREAM.CREATE" in subject and self.refusals_left:
            self.refusals_left -= 1
            offline = "no suitable peers for placement, peer offline"
            raise ApiRefusal(ApiError(400, 10005, offline))
        return await self._connection.ask(subject, payload, kind)


async def test_nodes_that_have_just_started_are_waited_for(
    server: EmbeddedServer, fleet: str
) -> None:
    async with connect(server.target, CLOCK) as connection:
        young: Any = Young(connection, 3)
        assert await ensure_streams(young, fleet) == 1
        assert young.refusals_left == 0


async def test_too_few_nodes_are_said_after_a_while(
    server: EmbeddedServer, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PEERS_WAIT_S", 0.5)
    async with connect(server.target, CLOCK) as connection:
        young: Any = Young(connection, 1000)
        with pytest.raises(ConfigError, match="peer offline: are all nodes up"):
            await ensure_streams(young, fleet)


async def test_a_missing_stream_has_an_error_of_its_own(server: EmbeddedServer, fleet: str) -> None:
    async with connect(server.target, CLOCK) as connection:
        with pytest.raises(StreamMissing, match=fleet):
            await require_stream(connection, f"FLEETLOG_{fleet}")


async def test_a_refused_request_carries_the_server_s_words(
    server: EmbeddedServer, fleet: str
) -> None:
    async with connect(server.target, CLOCK) as connection:
        with pytest.raises(ApiRefusal, match="10059"):
            await connection.request(f"$JS.API.STREAM.INFO.FLEETLOG_{fleet}")


async def test_the_server_s_time_sets_the_log_s_time(server: EmbeddedServer, fleet: str) -> None:
    """A machine whose clock is an hour behind still knows the log's time."""
    from datetime import datetime, timedelta

    class Behind(SystemClock):
        def now(self) -> datetime:
            return super().now() - timedelta(hours=1)

    async with connect(server.target, Behind()) as connection:
        await ensure_streams(connection, fleet)
        assert abs((connection.now() - CLOCK.now()).total_seconds()) < 5


async def test_nobody_there_is_said_with_what_to_do() -> None:
    with pytest.raises(Unavailable, match="fleetlog up"):
        async with connect(Target(url="nats://127.0.0.1:9"), CLOCK, patience_s=0.3):
            pass


async def test_wrong_credentials_are_said_at_once(server: EmbeddedServer) -> None:
    import msgspec

    wrong = msgspec.structs.replace(server.target, password="wrong")
    with pytest.raises(ConfigError, match="credentials"):
        async with connect(wrong, CLOCK, patience_s=10):
            pass


async def test_durability_is_known_of_the_server(
    server: EmbeddedServer, relaxed_server: EmbeddedServer, fleet: str
) -> None:
    import msgspec

    for each, durability in ((server, "always"), (relaxed_server, "relaxed")):
        async with open_fleet(each.target, fleet) as opened:
            assert opened.durability == durability
    unknown = msgspec.structs.replace(server.target, http_url=None)
    async with open_fleet(unknown, fleet) as opened:
        assert opened.durability == "unattested"
