"""How fast tasks are let in under limits; figures come from the log, by the server's time."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.bus.bounds import set_limit
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.roles import role
from fleetlog.cli.benchmarks.tasks import AGENT
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import LimitSet, TaskCompleted, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import tasks

BACKLOG: Final = 10_000
"""Tasks that wait when a limit is raised."""
TASKS: Final = 3_000
"""Tasks that run through a narrow one."""
PLACES: Final = 50
NOOP: Final = TaskSpec(handler="noop")


async def measure_admission(target: Target, data: Path, fleet: str) -> list[Figure]:
    """A backlog under a limit that is raised, then tasks that run under a narrow one and under none.

    Args:
        target: the server.
        data: its folder, by which roles find it.
        fleet: an unused name.
    """
    async with open_fleet(target, fleet) as opened, AsyncExitStack() as stack:
        await stack.enter_async_context(role(data, fleet, "coordinator"))
        backlog_s = await _let_in(opened)
        await stack.enter_async_context(role(data, fleet, *AGENT))
        # Until it works: what is slow at its start is not of interest.
        await (await Client(opened).submit(NOOP)).result()
        free = await _run(opened, NOOP)
        await _set(opened, "narrow", PLACES)
        narrow = await _run(opened, msgspec.structs.replace(NOOP, limits=("narrow",)))
        durability = opened.durability
    bar = 500.0 if durability == "relaxed" else None
    raised = f"{BACKLOG:,} waiting tasks let in when their limit is raised"
    figures = (
        (raised, BACKLOG / backlog_s, None),
        (f"tasks that run through a limit of {PLACES}", narrow, narrow / free),
    )
    return [
        Figure(
            what=what,
            durability=durability,
            value=value,
            unit="tasks/s",
            ratio=ratio,
            baseline="the same without a limit" if ratio is not None else None,
            bar=bar,
            is_ratio_judged=False,
        )
        for what, value, ratio in figures
    ]


async def _let_in(opened: Fleet) -> float:
    """Seconds from the raised limit to the last offer; nobody takes the tasks, whose queue no agent serves."""
    await _set(opened, "wide", 0)
    spec = msgspec.structs.replace(NOOP, limits=("wide",), queue="unserved")
    await Client(opened).submit_many([spec] * BACKLOG)
    raised_at = await _set(opened, "wide", 10 * BACKLOG)
    count = 0
    queued = tasks(opened.name, "unserved", verb="queued")
    async for page in opened.log.follow(subjects=queued):
        count += len(page)
        if count >= BACKLOG:
            return page[-1].stored_at.timestamp() - raised_at
    raise AssertionError("the log ended")


async def _run(opened: Fleet, spec: TaskSpec) -> float:
    """Tasks a second, from the first offer to the last outcome."""
    after = await opened.log.end()
    submitted = await Client(opened).submit_many([spec] * TASKS)
    for each in submitted:
        await each.result()
    first, last = 0.0, 0.0
    async for page in opened.log.read(after=after, subjects=tasks(opened.name)):
        for record in map(open_stored, page):
            if isinstance(record.event, TaskQueued):
                first = first or record.stored_at.timestamp()
            elif isinstance(record.event, TaskCompleted):
                last = record.stored_at.timestamp()
    return TASKS / (last - first)


async def _set(opened: Fleet, key: str, places: int) -> float:
    """Sets the limit; answers when the log had it."""
    event = LimitSet(
        id=opened.system.new_id(), occurred_at=opened.log.now(), key=key, concurrency=places
    )
    limit = await set_limit(opened, event)
    stored = await opened.log.get(limit.version)
    assert stored is not None
    return stored.stored_at.timestamp()
