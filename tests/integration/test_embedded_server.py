"""The life of the embedded server: start, death, restart, stop, and what it leaves in the folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from fleetlog.bus.embedded.config import LOOPBACK, Folder
from fleetlog.bus.embedded.runtime import Target, attest_durability
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError, Refused
from fleetlog.bus.settings import Durability, Settings

CORES = os.cpu_count() or 1


@asynccontextmanager
async def jetstream(target: Target) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(
        target.url, user=target.user, password=target.password, reconnect_time_wait=0.01
    )
    try:
        yield client.jetstream()
    finally:
        await client.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynccontextmanager
async def listener(port: int) -> AsyncIterator[None]:
    """Another program on this port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((LOOPBACK, port))
        other.listen()
        yield


@pytest.mark.parametrize("durability", ["always", "relaxed"])
async def test_durability_is_attested_by_the_server(
    durability: str, server: EmbeddedServer, relaxed_server: EmbeddedServer
) -> None:
    target = (server if durability == "always" else relaxed_server).target
    assert target.durability == durability
    assert await attest_durability(target.http_url) == durability


@pytest.mark.parametrize(
    ("durability", "own", "expected"),
    [("always", None, CORES), ("relaxed", None, max(1, CORES // 2)), ("relaxed", "3", 3)],
)
async def test_the_server_shares_its_cores_where_it_never_waits_for_the_disk(
    durability: Durability,
    own: str | None,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    if own is not None:
        monkeypatch.setenv("GOMAXPROCS", own)
    async with EmbeddedServer(Settings(data=tmp_path, durability=durability)) as server:
        with urllib.request.urlopen(f"{server.target.http_url}/varz") as answer:  # noqa: ASYNC210
            assert json.load(answer)["gomaxprocs"] == expected


async def test_server_takes_only_the_generated_credentials(server: EmbeddedServer) -> None:
    async with jetstream(server.target) as js:
        await js.account_info()
    port = int(server.target.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    assert (await reader.readline()).startswith(b"INFO ")
    writer.write(b"CONNECT {}\r\nPING\r\n")
    assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    writer.close()
    await writer.wait_closed()


async def test_only_the_owner_reads_the_secrets(fresh_server: EmbeddedServer) -> None:
    folder = Folder(fresh_server.data)
    assert mode(folder.data) == mode(folder.server) == 0o700
    private = (folder.config, folder.server / "auth", folder.data / "runtime.json")
    assert {mode(path) for path in private} == {0o600}
    password = fresh_server.target.password
    assert password is not None
    assert len(bytes.fromhex(password)) == 32


async def test_killed_server_comes_back_with_its_data_on_its_port(
    fresh_server: EmbeddedServer,
) -> None:
    before = fresh_server.target
    async with jetstream(before) as js:
        await js.add_stream(name="S", subjects=["s"])
        for _ in range(20):
            await js.publish("s", b"kept")
        os.kill(fresh_server.running.server_pid, signal.SIGKILL)
        assert await fresh_server.wait() == -signal.SIGKILL
        died_at = time.monotonic()
        await fresh_server.restart()
        assert time.monotonic() - died_at < 2
        assert fresh_server.target == before
    async with jetstream(before) as js:
        assert (await js.stream_info("S")).state.messages == 20


async def test_restart_stops_a_server_that_still_runs(fresh_server: EmbeddedServer) -> None:
    before = fresh_server.running
    await fresh_server.restart()
    after = fresh_server.running
    assert after.server_pid != before.server_pid
    assert after.url == before.url
    assert after.started_at > before.started_at


async def test_next_start_keeps_port_and_credentials(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "fleet")
    async with EmbeddedServer(settings) as first:
        target = first.target
        runtime = first.data / "runtime.json"
        assert runtime.exists()
    assert not runtime.exists()
    async with EmbeddedServer(settings) as second:
        assert second.target == target


async def test_folder_with_an_awkward_name_works(tmp_path: Path) -> None:
    async with EmbeddedServer(Settings(data=tmp_path / 'it\'s "my" $HOME flöte #1')) as server:
        async with jetstream(server.target) as js:
            await js.add_stream(name="S", subjects=["s"])
        assert (Folder(server.data).store / "jetstream").is_dir()


async def test_second_server_on_a_folder_is_refused_by_name(
    fresh_server: EmbeddedServer,
) -> None:
    second = EmbeddedServer(Settings(data=fresh_server.data))
    with pytest.raises(Refused) as refusal:
        await second.__aenter__()
    assert f"pid {os.getpid()}" in str(refusal.value)
    assert fresh_server.target.url in str(refusal.value)
    async with jetstream(fresh_server.target) as js:
        await js.account_info()


async def test_named_port_is_used(tmp_path: Path, fresh_server: EmbeddedServer) -> None:
    port = int(fresh_server.target.url.rpartition(":")[2])
    settings = Settings(data=tmp_path / "named", port=port)
    with pytest.raises(ConfigError, match=f"port {port} is in use: .*--port"):
        await EmbeddedServer(settings).__aenter__()
    await fresh_server.__aexit__(None, None, None)
    async with EmbeddedServer(settings) as server:
        assert server.target.url == f"nats://127.0.0.1:{port}"


async def test_remembered_port_that_is_taken_is_changed_with_a_notice(tmp_path: Path) -> None:
    notices: list[str] = []
    settings = Settings(data=tmp_path / "fleet")
    async with EmbeddedServer(settings) as first:
        port = int(first.target.url.rpartition(":")[2])
    async with listener(port), EmbeddedServer(settings, notice=notices.append) as second:
        assert second.target.url != first.target.url
    assert notices == [f"port {port} is in use by another program, taking another one"]


async def test_port_taken_during_a_restart_is_told_from_the_log(
    fresh_server: EmbeddedServer,
) -> None:
    port = int(fresh_server.target.url.rpartition(":")[2])
    fresh_server.kill()
    await fresh_server.wait()
    async with listener(port):
        with pytest.raises(ConfigError, match="address already in use"):
            await fresh_server.restart()
    await fresh_server.restart()
    assert fresh_server.target.url.endswith(f":{port}")


async def test_failed_start_leaves_the_folder_free(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "fleet")
    async with EmbeddedServer(settings) as server:
        store = Folder(server.data).store
    (store / "jetstream").rmdir()
    store.rmdir()
    store.write_text("no folder")
    with pytest.raises(ConfigError, match=r"server\.log says:\n.*JetStream"):
        await EmbeddedServer(settings).__aenter__()
    store.unlink()
    async with EmbeddedServer(settings) as server:
        assert server.target.url


async def test_server_that_ignores_sigterm_is_killed(fresh_server: EmbeddedServer) -> None:
    # A stopped process takes no SIGTERM.
    os.kill(fresh_server.running.server_pid, signal.SIGSTOP)
    await fresh_server.restart(timeout_s=0.2)
    async with jetstream(fresh_server.target) as js:
        await js.account_info()
