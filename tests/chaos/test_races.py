"""Many processes want the same thing at once: one gets it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.fleets import TESTS
from support.measuring import unmeasured
from support.targets import text_of

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.jetstream.streams import log_config
from fleetlog.bus.system import SystemClock
from fleetlog.schemas.specs import TaskSpec

IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
CLAIM_ROUNDS = 1000 if IS_LONG else 100


class Racer:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def say(self, text: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        await self.process.stdin.drain()

    async def hear(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            return (await self.process.stdout.readline()).decode().strip()


@asynccontextmanager
async def racers(
    count: int, role: str, target: Target, name: str, *rest: str
) -> AsyncIterator[list[Racer]]:
    """Processes that have connected and wait for a word."""
    argv = [
        sys.executable,
        "-m",
        "support.racers",
        role,
        text_of(target),
        name,
    ]
    started = [
        Racer(
            await asyncio.create_subprocess_exec(
                *argv,
                *rest,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=unmeasured({**os.environ, "PYTHONPATH": TESTS}),
            )
        )
        for _ in range(count)
    ]
    try:
        assert await asyncio.gather(*[r.hear() for r in started]) == ["ready"] * count
        yield started
    finally:
        for racer in started:
            assert racer.process.stdin is not None
            racer.process.stdin.close()
        for racer in started:
            await racer.process.wait()


async def test_of_ten_processes_that_claim_one_offer_one_wins(
    server: EmbeddedServer, fleet: str
) -> None:
    async with (
        open_fleet(server.target, fleet) as opened,
        racers(10, "claim", server.target, fleet) as ten,
    ):
        for round_number in range(CLAIM_ROUNDS):
            task = await Client(opened).submit(TaskSpec(handler="h"))
            for racer in ten:
                await racer.say(str(task.seq))
            assert await asyncio.gather(*[r.hear() for r in ten]) == ["armed"] * 10
            for racer in ten:
                await racer.say()
            answers = sorted(await asyncio.gather(*[r.hear() for r in ten]))
            assert answers == ["claimed"] + ["conflict"] * 9, f"round {round_number}"
        assert await opened.log.end() == 2 * CLAIM_ROUNDS


async def test_the_same_key_from_fifty_processes_is_one_task_for_ever(
    fresh_server: EmbeddedServer, fleet: str
) -> None:
    """At once, after a restart, and after the server's own window for duplicates is long over."""
    async with connect(fresh_server.target, SystemClock()) as connection:
        config = log_config(fleet, 1) | {"duplicate_window": 100_000_000}
        await connection.request(f"$JS.API.STREAM.CREATE.{config['name']}", config)

    async with racers(50, "submit", fresh_server.target, fleet, "the key") as fifty:

        async def race(payload: str) -> set[str]:
            for racer in fifty:
                await racer.say(payload)
            return set(await asyncio.gather(*[r.hear() for r in fifty]))

        first = await race('{"n": 1}')
        assert len(first) == 1
        await fresh_server.restart()
        assert await race('{"n":1}') == first
        assert await race('{"n": 2}') == {"taken"}
    async with open_fleet(fresh_server.target, fleet) as opened:
        assert await opened.log.end() == 1
