"""How other commands find the server, and what happens after its keeper was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.files import FolderLock, is_held
from fleetlog.bus.embedded.orphan import ask_ps, command_line, find_orphan, stop_orphan
from fleetlog.bus.embedded.runtime import (
    Running,
    Stale,
    Target,
    attest_durability,
    find_running,
    read_running,
    resolve_target,
)
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError, Unavailable
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import SystemClock

KEEPER = """
import asyncio, sys
from pathlib import Path
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.settings import Settings

async def main():
    async with EmbeddedServer(Settings(data=Path(sys.argv[1]))) as server:
        print("up", flush=True)
        await server.wait()

asyncio.run(main())
"""


@contextmanager
def killed_keeper(data: Path) -> Iterator[Running]:
    """The state after `kill -9` of the process that kept a server: the server lives on."""
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(data)], stdout=subprocess.PIPE
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"up\n"
        running = read_running(data)
        assert running is not None
        keeper.kill()
    try:
        yield running
    finally:
        if str(data) in asyncio.run(command_line(running.server_pid)):
            os.kill(running.server_pid, signal.SIGKILL)


async def test_running_server_is_found_by_its_folder(fresh_server: EmbeddedServer) -> None:
    settings = Settings(data=fresh_server.data)
    assert find_running(settings) == fresh_server.running
    assert resolve_target(settings) == fresh_server.target


async def test_named_address_goes_before_a_running_server(fresh_server: EmbeddedServer) -> None:
    settings = Settings(data=fresh_server.data, url="nats://far:4222", creds=Path("/my.creds"))
    assert resolve_target(settings) == Target(url="nats://far:4222", creds=Path("/my.creds"))


def test_without_a_server_the_message_says_how_to_start_one(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "none")
    assert find_running(settings) is None
    with pytest.raises(Unavailable, match=r"`fleetlog up`.*FLEETLOG_DATA.*--url"):
        resolve_target(settings)


def test_server_whose_keeper_was_killed_is_stale(tmp_path: Path) -> None:
    with killed_keeper(tmp_path) as running:
        settings = Settings(data=tmp_path)
        assert find_running(settings) == Stale(running)
        with pytest.raises(Unavailable, match=rf"pid {running.up_pid}\) ended without stopping"):
            resolve_target(settings)


def test_next_start_stops_the_orphan_and_takes_its_place(tmp_path: Path) -> None:
    notices: list[str] = []

    async def start(before: Running) -> None:
        server = EmbeddedServer(Settings(data=tmp_path), notice=notices.append)
        async with server:
            assert await command_line(before.server_pid) == ""
            assert server.running.url == before.url
            assert find_running(Settings(data=tmp_path)) == server.running

    with killed_keeper(tmp_path) as before:
        assert is_held(tmp_path / "server.lock")
        asyncio.run(start(before))
    assert len(notices) == 1
    assert f"nats-server (pid {before.server_pid}) was left behind" in notices[0]


def test_orphan_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with killed_keeper(tmp_path) as before:
        # A stopped process takes no SIGTERM.
        os.kill(before.server_pid, signal.SIGSTOP)
        folder = Folder(tmp_path)
        assert asyncio.run(find_orphan(folder, SystemClock())) == before.server_pid
        asyncio.run(stop_orphan(folder, before.server_pid, SystemClock(), term_s=0.1))
        assert not is_held(folder.lock)


async def test_unknown_holder_of_the_store_is_never_signalled(tmp_path: Path) -> None:
    async with EmbeddedServer(Settings(data=tmp_path)):
        pass
    # The pid in the file is another program's by now: this very test.
    folder = Folder(tmp_path)
    folder.pid.write_text(str(os.getpid()))
    with pytest.raises(ConfigError, match=r"a process holds .*server\.lock"):
        await find_orphan(folder, SystemClock(), patience_s=0.1)


@pytest.mark.parametrize("ask", [ask_ps, command_line])
async def test_command_line_of_a_process_is_known(ask: Callable[[int], Awaitable[str]]) -> None:
    asleep = await asyncio.create_subprocess_exec("sleep", "61.25")
    assert "sleep 61.25" in await ask(asleep.pid)
    asleep.kill()
    await asleep.wait()
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    assert await ask(gone.pid) == ""


async def test_look_at_a_lock_does_not_keep_its_taker_out(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")
    assert await lock.acquire(SystemClock())
    assert is_held(tmp_path / "lock")
    other = FolderLock(tmp_path / "lock")
    assert not await other.acquire(SystemClock())
    lock.release()
    assert not is_held(tmp_path / "lock")


@pytest.mark.parametrize("http_url", [None, "http://127.0.0.1:1"])
async def test_durability_of_an_unreachable_server_is_unattested(http_url: str | None) -> None:
    assert await attest_durability(http_url) == "unattested"


async def test_durability_of_something_else_is_unattested() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        assert await attest_durability(f"http://127.0.0.1:{port}") == "unattested"
