"""A fleet in the test's own process: real server, real workers, supervisor and coordinator as tasks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fleetlog.agents.agent_options import AgentOptions
from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.coordinator import Coordinator
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.stuck_offers import StuckTimes
from fleetlog.schemas.envelope import Recorded, open_stored
from support.measuring import measured_at_first
from support.targets import target_of

TESTS = str(Path(__file__).resolve().parent.parent)
APP = "support.handlers:agent"


def options(**changes: Any) -> AgentOptions:
    """An agent with the test handlers."""
    environ = measured_at_first({**os.environ, "PYTHONPATH": TESTS}, "worker")
    defaults: dict[str, Any] = {
        "workers": 1,
        "app": APP,
        "environ": environ,
        "drain_s": 5.0,
        "stop_s": 0.5,
    }
    return AgentOptions(**(defaults | changes))


@asynccontextmanager
async def agent(
    target: Target, name: str, *, ack_wait_s: float = 30.0, **changes: Any
) -> AsyncIterator[Supervisor]:
    """An agent with a connection of its own; drains at the end of the block."""
    stop = asyncio.Event()
    async with open_fleet(target, name, role="agent", ack_wait_s=ack_wait_s) as fleet:
        supervisor = Supervisor(fleet, options(**changes))
        serving = asyncio.ensure_future(supervisor.run(stop))
        await first_of(serving, supervisor.ready)
        try:
            yield supervisor
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def coordinator(
    target: Target, name: str, *, has_rivals: bool = True, stuck: StuckTimes | None = None
) -> AsyncIterator[Coordinator]:
    """A coordinator with a connection of its own."""
    stop = asyncio.Event()
    async with open_fleet(target, name, role="coordinator") as fleet:
        one = Coordinator(fleet, has_rivals=has_rivals, stuck=stuck)
        running = asyncio.ensure_future(one.run(stop))
        await first_of(running, one.ready)
        try:
            yield one
        finally:
            stop.set()
            await running


async def first_of(running: asyncio.Future[None], ready: asyncio.Event) -> None:
    """Waits until ready; raises what ended the runner before."""
    waiting = asyncio.ensure_future(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        await running


async def history(fleet: Fleet, *, types: tuple[str, ...] = ()) -> list[Recorded]:
    """The whole log, opened."""
    found = [open_stored(s) async for page in fleet.log.read() for s in page]
    return [r for r in found if not types or type(r.event).__name__ in types]


async def wait_for(
    fleet: Fleet, kind: str, count: int = 1, *, task_id: str | None = None, timeout_s: float = 30.0
) -> list[Recorded]:
    """Follows the log until it holds `count` events of a type, and gives those."""
    found: list[Recorded] = []
    async with asyncio.timeout(timeout_s):
        async for page in fleet.log.follow():
            for record in map(open_stored, page):
                is_task = task_id is None or (
                    record.subject is not None and record.subject.id == task_id
                )
                if type(record.event).__name__ == kind and is_task:
                    found.append(record)
            if len(found) >= count:
                break
    return found


async def _main(target: str, name: str, ack_wait_s: str) -> None:
    async with agent(target_of(target), name, ack_wait_s=float(ack_wait_s)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
