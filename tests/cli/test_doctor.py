"""`fleetlog doctor`: what it finds where something is wrong, and what it says to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.command_line import CommandLine, address
from support.servers import make_limited

from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.jetstream.lanes import LaneSeen
from fleetlog.bus.jetstream.room import Usage
from fleetlog.bus.jetstream.streams import ensure_streams, log_config
from fleetlog.bus.settings import ENVIRONMENT, Settings
from fleetlog.bus.system import SystemClock
from fleetlog.cli import checks_fleet, checks_server
from fleetlog.cli.checks import size_text
from fleetlog.cli.overview import AgentSeen

MIB = 1024 * 1024


@pytest_asyncio.fixture
async def bare(server: EmbeddedServer, fleet: str, tmp_path: Path) -> AsyncIterator[CommandLine]:
    """The command line of a fleet without any role."""
    environ = {ENVIRONMENT["url"]: address(server.target), ENVIRONMENT["fleet"]: fleet}
    yield CommandLine(tmp_path / "data", **environ)


def by_name(checks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in checks}


def test_a_fleet_in_order_has_no_findings(cli: CommandLine) -> None:
    ran = cli("doctor", "--json")
    checks = by_name(ran.value)
    assert set(checks) == {
        *("data folder", "disk", "bus", "version", "durability", "streams", "clock", "log size"),
        *("subjects", "agents", "pauses", "coordinator", "projector", "events", "rules", "queues"),
    }
    assert "nats-server 2.15" in checks["version"]["found"]
    levels = {name: check["level"] for name, check in checks.items()}
    # Other tests leave tasks in queues that nobody serves, and the disk is this machine's.
    levels |= {"queues": "ok", "disk": "ok"}
    assert set(levels.values()) == {"ok"}, ran.value
    subjects = int(checks["subjects"]["found"].partition(" subjects")[0])
    assert 0 < subjects <= cli("sql", "--json", "SELECT count(*) AS n FROM events").value[0]["n"]
    said = cli("doctor").out
    assert "\nok       coordinator  " in said
    assert " is active, " in checks["coordinator"]["found"]
    assert said.rstrip().endswith(" 0 error")


def test_no_bus_is_exit_code_3(nowhere: CommandLine) -> None:
    ran = nowhere.run("doctor")
    assert ran.code == 3
    assert "error    bus  not reachable" in ran.out
    assert "-> no fleet runs on" in ran.out
    ran = nowhere.run("doctor", "--json")
    assert (ran.code, ran.value[-1]["level"]) == (3, "error")


async def test_a_fleet_without_roles_is_told_how_to_start_them(
    bare: CommandLine, fleet: str
) -> None:
    checks = by_name((await asyncio.to_thread(bare, "doctor", "--json")).value)
    assert checks["streams"]["level"] == "warning"
    assert f"FLEETLOG_{fleet}" in checks["streams"]["found"]
    assert "agents" not in checks  # it has made nothing
    await asyncio.to_thread(bare, "submit", "add", "--unchecked")
    checks = by_name((await asyncio.to_thread(bare, "doctor", "--json")).value)
    for name in ("agent", "coordinator", "projector"):
        check = checks["agents" if name == "agent" else name]
        assert check["level"] == "warning"
        assert f"`fleetlog {name}" in check["advice"]


async def test_wrong_stream_settings_are_an_error(
    server: EmbeddedServer, bare: CommandLine, fleet: str
) -> None:
    async with connect(server.target, SystemClock()) as connection:
        config = log_config(fleet, 1) | {"max_age": 3_600_000_000_000}
        await connection.request(f"$JS.API.STREAM.CREATE.{config['name']}", config)
    ran = await asyncio.to_thread(bare.run, "doctor", "--json")
    assert ran.code == 1
    assert "max_age" in by_name(ran.value)["streams"]["advice"]


async def test_a_log_near_its_limit_is_an_error(
    server: EmbeddedServer, bare: CommandLine, fleet: str
) -> None:
    async with connect(server.target, SystemClock()) as connection:
        await make_limited(connection, fleet, max_bytes=64 * 1024)
    async with open_fleet(server.target, fleet) as opened:
        for number in range(20):
            await opened.link.publish(f"fleetlog.{fleet}.agent.a{number}.lost", b"x" * 3000)
    ran = await asyncio.to_thread(bare.run, "doctor", "--json")
    assert ran.code == 1
    check = by_name(ran.value)["log size"]
    assert (check["level"], "no tasks are accepted" in check["found"]) == ("error", True)


async def test_wrong_credentials_are_no_bus(server: EmbeddedServer, nowhere: CommandLine) -> None:
    url = server.target.url.replace("://", "://fleetlog:wrong@")
    ran = await asyncio.to_thread(nowhere.run, "doctor", "--url", url)
    assert ran.code == 3
    assert "refused the credentials" in ran.out
    assert "wrong" not in ran.out.replace("what is wrong", "")


class _Behind(SystemClock):
    def now(self) -> datetime:
        return super().now() - timedelta(hours=1)


async def test_a_machine_whose_clock_is_wrong_is_told_so(
    server: EmbeddedServer, fleet: str
) -> None:
    clock = _Behind()
    async with connect(server.target, clock) as connection:
        await ensure_streams(connection, fleet)  # any answer tells the server's time
        check = checks_server.check_clock(connection, clock)
    assert (check.level, "s behind the server's" in check.found) == ("warning", True)
    assert check.found.startswith(("3599.", "3600."))
    assert check.advice is not None
    assert "by NTP" in check.advice


async def test_what_a_loss_of_power_would_take_is_said(
    server: EmbeddedServer, relaxed_server: EmbeddedServer
) -> None:
    always = await checks_server.check_durability(server.target)
    assert always.level == "ok"
    relaxed = await checks_server.check_durability(relaxed_server.target)
    assert (relaxed.level, "up to a second" in relaxed.found) == ("warning", True)
    unknown = await checks_server.check_durability(Target(url=server.target.url))
    assert (unknown.level, "unattested" in unknown.found) == ("warning", True)
    assert unknown.advice is not None
    assert "sync_interval: always" in unknown.advice


@pytest.mark.parametrize(
    ("lag", "level"),
    [(0, "ok"), (checks_fleet.LAG_MAX, "ok"), (checks_fleet.LAG_MAX + 1, "warning")],
)
def test_views_that_are_behind(lag: int, level: str) -> None:
    check = checks_fleet._projector(lag, 5)
    assert (check.level, check.found) == (level, f"{lag} events behind the log, at 5")


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [(MIB, None, "ok"), (70, 100, "ok"), (75, 100, "warning"), (90, 100, "error")],
)
def test_log_size(used: int, limit: int | None, level: str) -> None:
    assert checks_server.check_log_size(Usage(used, limit)).level == level


def test_subjects_cost_memory() -> None:
    assert checks_server.check_subjects(Usage(0, None, 1_000_000)).level == "ok"
    check = checks_server.check_subjects(Usage(0, None, 10_000_000))
    assert (check.level, "2.8 GiB" in check.found) == ("warning", True)


def test_a_folder_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    check = checks_server.check_folder(tmp_path)
    assert check is not None
    assert (check.level, check.advice) == (
        "warning",
        f"it holds the server's password: chmod 700 {tmp_path}",
    )
    tmp_path.chmod(0o700)
    check = checks_server.check_folder(tmp_path)
    assert check is not None
    assert check.level == "ok"
    assert checks_server.check_folder(tmp_path / "none") is None


def test_disk_is_looked_at_only_where_the_server_is_ours(tmp_path: Path) -> None:
    assert checks_server.check_disk(Settings(data=tmp_path)) is None
    (tmp_path / "server" / "store").mkdir(parents=True)
    assert checks_server.check_disk(Settings(data=tmp_path)) is not None
    assert checks_server.check_disk(Settings(data=tmp_path, url="nats://hub")) is None


def test_agents_that_are_silent_are_named() -> None:
    silent = AgentSeen(
        agent_id="a1", host="h1", state="silent", queues=(), heard_at=None, workers=()
    )
    check = checks_fleet.check_agents([silent])
    assert check.level == "warning"
    assert "1 silent: a1 on h1" in check.found


def waiting(queued: int, claimed: int = 0, *, is_old: bool = True) -> dict[str, Any]:
    lane = {"queue": "gpu", "priority": "high", "queued": queued, "claimed": claimed}
    return {**lane, "requires": {}, "offered_on": "gpu", "is_old": is_old}


@pytest.mark.parametrize(
    ("lanes", "row", "level"),
    [
        ([(2, 1)], waiting(2, 1), "ok"),
        ([(1, 1)], waiting(2, 1), "error"),
        ([(1, 1)], waiting(2, 1, is_old=False), "ok"),
        ([], waiting(1), "warning"),
    ],
)
def test_queues(lanes: list[tuple[int, int]], row: dict[str, Any], level: str) -> None:
    seen = [
        LaneSeen(queue="gpu", priority="high", pending=pending, in_hand=in_hand, asking=0)
        for pending, in_hand in lanes
    ]
    check = checks_fleet._lanes("FLEETLOG_main", seen, [row])
    assert check.level == level
    if level == "error":
        assert check.advice is not None
        assert "`nats consumer rm FLEETLOG_main offers_gpu_high`" in check.advice
    if level != "ok":
        assert "in gpu (high)" in check.found


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (5 * 1024**4, "5.0 TiB")]
)
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text
