"""An agent whose host is short of something, and workers that use too much, with a real server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from support.fleets import agent as plain_agent
from support.fleets import first_of, options, wait_for

from fleetlog.agents.strains import Disk, Floors
from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.events import AgentStrained, TaskFailed
from fleetlog.schemas.specs import TaskSpec


class Dials:
    """Gauges that a test turns."""

    def __init__(self) -> None:
        self.left = {"disk": 1000, "memory": 1000, "files": 1000}

    def disk(self) -> Disk | None:
        return Disk(size=1_000_000, free=self.left["disk"])

    def memory(self) -> int | None:
        return self.left["memory"]

    def files(self) -> int | None:
        return self.left["files"]


@asynccontextmanager
async def agent(target: Target, name: str, dials: Dials) -> AsyncIterator[Supervisor]:
    stop = asyncio.Event()
    floors = Floors(disk_bytes=100, memory_bytes=100, files=100, look_s=0.05)
    async with open_fleet(target, name, role="agent") as fleet:
        supervisor = Supervisor(fleet, options(floors=floors), gauges=dials)
        serving = asyncio.ensure_future(supervisor.run(stop))
        await first_of(serving, supervisor.ready)
        try:
            yield supervisor
        finally:
            stop.set()
            await serving


async def test_a_strained_agent_takes_nothing_and_goes_on_by_itself(
    server: EmbeddedServer, fleet: str
) -> None:
    dials = Dials()
    async with (
        Client.connect(target=server.target, fleet=fleet) as client,
        agent(server.target, fleet, dials),
    ):
        assert (await (await client.submit(call("noop", n=3))).result("30s")).result == 3
        dials.left |= {"disk": 99, "files": 7}
        [strained] = await wait_for(client.fleet, "AgentStrained")
        assert isinstance(strained.event, AgentStrained)
        assert [(s.resource, s.left, s.floor) for s in strained.event.strains] == [
            ("disk", 99, 100),
            ("files", 7, 100),
        ]
        assert "file handles (7 left, wanted 100)" in (strained.event.reason or "")
        waiting = await client.submit(call("noop", n=7))
        # Above the floor again, but only just: it would waver. And one of two is not all.
        dials.left |= {"disk": 105}
        dials.left |= {"files": 1000}
        one = (await wait_for(client.fleet, "AgentStrained", 2))[-1].event
        assert isinstance(one, AgentStrained)
        assert [s.resource for s in one.strains] == ["disk"]
        assert len((await client.get(waiting.task_id)).events) == 1
        dials.left |= {"disk": 120}
        await wait_for(client.fleet, "AgentRecovered")
        assert (await waiting.result("30s")).result == 7


async def test_an_agent_that_starts_strained_takes_nothing(
    server: EmbeddedServer, fleet: str
) -> None:
    dials = Dials()
    dials.left["memory"] = 1
    async with open_fleet(server.target, fleet) as opened:
        client = Client(opened)
        waiting = await client.submit(call("noop", n=7))
        async with agent(server.target, fleet, dials):
            await wait_for(client.fleet, "AgentStrained")
            assert len((await client.get(waiting.task_id)).events) == 1
            dials.left["memory"] = 1000
            assert (await waiting.result("30s")).result == 7


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="memory is read from /proc")
async def test_a_worker_that_uses_too_much_is_ended_and_its_attempt_has_crashed(
    server: EmbeddedServer, fleet: str
) -> None:

    limit = 300 * 1024 * 1024
    async with (
        Client.connect(target=server.target, fleet=fleet) as client,
        plain_agent(server.target, fleet, memory_max_bytes=limit),
    ):
        # The command's process eats, and not the worker's: all that a worker started counts.
        code = "import time; kept = b'x' * (500 * 1024 * 1024); time.sleep(60)"
        args = {"argv": [sys.executable, "-c", code]}
        raw = msgspec.Raw(msgspec.json.encode(args))
        eating = await client.submit(
            TaskSpec(handler="eat", executor="command", args=raw, max_attempts=1)
        )
        outcome = await eating.result("50s")
        assert (outcome.state, outcome.error_class) == ("failed", "crash")
        assert "of memory with all that it started, more than the 300 MiB" in (outcome.error or "")
        event = (await client.get(eating.task_id)).events[-1].event
        assert isinstance(event, TaskFailed)
        assert event.exit_code == -9
        # The next worker runs on.
        assert (await (await client.submit(call("noop", n=3))).result("30s")).result == 3
