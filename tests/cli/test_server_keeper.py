"""Who looks after the server: the keeper while `up` lives, the cleaner after an ephemeral one was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from fleetlog.bus.embedded.files import is_held
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.system import SystemClock
from fleetlog.cli.cleaner import clean_after
from fleetlog.cli.lifeline import Lifeline
from fleetlog.cli.server_keeper import keep_server


class Sayings:
    """What was said, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def add(self, text: str) -> None:
        self.lines.append(text)
        self._more.set()

    async def until(self, text: str, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(text in line for line in self.lines) < count:
                self._more.clear()
                await self._more.wait()


async def test_server_that_dies_twice_comes_back_twice(fresh_server: EmbeddedServer) -> None:
    said = Sayings()
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(keep_server(fresh_server, SystemClock(), said.add))
        for count in (1, 2):
            killed_at = time.monotonic()
            os.kill(fresh_server.running.server_pid, signal.SIGKILL)
            await said.until("nats-server runs again at", count)
            assert time.monotonic() - killed_at < 2
        keeping.cancel()
    assert said.lines[0] == "nats-server was killed by SIGKILL; starting it again"


async def test_server_is_tried_until_it_starts(fresh_server: EmbeddedServer) -> None:
    said = Sayings()
    marker = fresh_server.data / "server/store.json"
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(keep_server(fresh_server, SystemClock(), said.add))
        marker.rename(marker.with_suffix(".away"))
        fresh_server.kill()
        await said.until("another nats-server", 2)
        marker.with_suffix(".away").rename(marker)
        await said.until("nats-server runs again at")
        keeping.cancel()


async def test_cleaner_stops_the_server_and_removes_the_folder(
    fresh_server: EmbeddedServer,
) -> None:
    async with asyncio.TaskGroup() as group:
        with Lifeline() as lifeline:
            group.create_task(
                clean_after(fresh_server.data, os.dup(lifeline.read_fd), SystemClock())
            )
    assert await fresh_server.wait() == 0
    assert not fresh_server.data.exists()


async def test_cleaner_that_is_told_to_stop_touches_nothing(
    fresh_server: EmbeddedServer, tmp_path: Path
) -> None:
    with Lifeline() as lifeline:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                clean_after(fresh_server.data, os.dup(lifeline.read_fd), SystemClock())
            )
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGTERM)
    assert is_held(fresh_server.data / "server.lock")
