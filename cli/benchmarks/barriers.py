"""How soon continuations run and how large fan-outs may be; figures come from the log, by the server's time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.handles import FannedOut
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.roles import role
from fleetlog.cli.benchmarks.tasks import AGENT
from fleetlog.schemas.envelope import Recorded, open_stored
from fleetlog.schemas.events import BarrierReleased, TaskClaimed, TaskQueued, TerminalEvent
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import everything

RATE: Final = 50
"""Barriers in a second."""
WIDTH: Final = 10
"""Members of each."""
SECONDS: Final = 10
WIDE: Final = 10_000
"""Members of the large one."""
NOOP: Final = TaskSpec(handler="noop")


async def measure_barriers(target: Target, data: Path, fleet: str) -> list[Figure]:
    """Many small barriers at a steady rate, then a large one.

    Args:
        target: the server.
        data: its folder, by which roles find it.
        fleet: an unused name.
    """
    async with _running(target, data, fleet) as opened:
        small = await _at_rate(Client(opened))
        records = await _records(opened)
        waits = sorted(_waits_ms(records, small))
        after = records[-1].seq
        started = time.perf_counter()
        wide, accepted_at = await _accepted(opened, after)
        accepted_s = accepted_at - started
        await wide.result()
        large = await _records(opened, after)
    opened_at, queued_at, settled_at, released_at = _instants(large, wide)
    soon = f"{RATE} barriers of {WIDTH} a second, last outcome to continuation claimed"
    wide_one = f"a fan-out of {WIDE:,}"
    figures = (
        (f"{soon}, median", statistics.median(waits), "ms", 20.0),
        (f"{soon}, 99 of 100", waits[len(waits) * 99 // 100], "ms", 100.0),
        (f"{wide_one}, until it is accepted", accepted_s, "s", 0.5),
        (f"{wide_one}, accepted until the last is queued", queued_at - opened_at, "s", 2.0),
        (f"{wide_one}, last outcome until released", released_at - settled_at, "s", 1.0),
    )
    return [_figure(opened, *each) for each in figures]


@asynccontextmanager
async def _running(target: Target, data: Path, fleet: str) -> AsyncIterator[Fleet]:
    async with open_fleet(target, fleet) as opened, AsyncExitStack() as stack:
        await stack.enter_async_context(role(data, fleet, "coordinator"))
        await stack.enter_async_context(role(data, fleet, *AGENT))
        # Until both work: what is slow at their start is not of interest.
        await (await Client(opened).fan_out(FanOut([NOOP], then=NOOP))).result()
        yield opened


async def _at_rate(client: Client) -> list[FannedOut]:
    made: list[FannedOut] = []
    started = time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        made.append(await client.fan_out(FanOut([NOOP] * WIDTH, then=NOOP)))
    for each in made:
        await each.result()
    return made


async def _accepted(opened: Fleet, after: int) -> tuple[FannedOut, float]:
    """The large one, and when the log had the event that names all of it."""
    making = asyncio.ensure_future(Client(opened).fan_out(FanOut([NOOP] * WIDE, then=NOOP)))
    subjects = f"fleetlog.{opened.name}.barrier.*.opened"
    async for _ in opened.log.follow(after=after, subjects=subjects):
        break
    at = time.perf_counter()
    return await making, at


def _waits_ms(records: Iterable[Recorded], fan_outs: Iterable[FannedOut]) -> Iterable[float]:
    settled: dict[str, float] = {}
    claimed: dict[str, float] = {}
    for record in records:
        assert record.subject is not None
        if isinstance(record.event, TerminalEvent):
            settled[record.subject.id] = record.stored_at.timestamp()
        elif isinstance(record.event, TaskClaimed):
            claimed[record.subject.id] = record.stored_at.timestamp()
    for each in fan_outs:
        assert each.continuation_id is not None
        last = max(settled[task_id] for task_id in each.task_ids)
        yield (claimed[each.continuation_id] - last) * 1000


def _instants(records: Iterable[Recorded], fan_out: FannedOut) -> tuple[float, ...]:
    """When it was opened, the last member queued, the last one settled, and it was released."""
    members = set(fan_out.task_ids)
    opened = queued = settled = released = 0.0
    for record in records:
        assert record.subject is not None
        at = record.stored_at.timestamp()
        opened = opened or at
        if isinstance(record.event, TaskQueued) and record.subject.id in members:
            queued = at
        elif isinstance(record.event, TerminalEvent) and record.subject.id in members:
            settled = at
        elif isinstance(record.event, BarrierReleased):
            released = at
    return opened, queued, settled, released


def _figure(opened: Fleet, what: str, value: float, unit: str, most: float) -> Figure:
    return Figure(
        what=what,
        durability=opened.durability,
        value=value,
        unit=unit,
        bar=most if opened.durability == "relaxed" else None,
        is_most=True,
        is_ratio_judged=False,
    )


async def _records(opened: Fleet, after: int = 0) -> list[Recorded]:
    found = opened.log.read(after=after, subjects=everything(opened.name))
    return [open_stored(stored) async for page in found for stored in page]
