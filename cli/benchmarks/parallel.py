"""How nearly N workers do N tasks in the time of one; all figures come from the log, by the server's time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.roles import role
from fleetlog.cli.benchmarks.tasks import APP
from fleetlog.schemas.envelope import Recorded, open_stored
from fleetlog.schemas.events import TaskClaimed, TaskCompleted, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import tasks

TASK_S: Final = 1.0
WARM_S: Final = 0.2
IDLE_MAX_MS: Final = 50.0
SHAPES: Final[tuple[tuple[int, int, float], ...]] = ((1, 3, 2.9), (1, 10, 9.5), (2, 10, 18.0))
"""Agents, workers of each, and the least speed-up."""

Span = tuple[float, float]


class Shown(msgspec.Struct, frozen=True):
    """What the log shows of a number of equal tasks."""

    wall_s: float
    """From the first offer to the last outcome."""
    workers: int
    """Workers that had one at least."""
    idle_s: float
    """The longest time that a worker had nothing while an offer stood open."""


async def measure_parallel(
    target: Target, data: Path, agent_count: int, workers: int
) -> list[Figure]:
    """One task of a second for each worker, on agents that are ready before the first is submitted."""
    count = agent_count * workers
    name = f"parallel-{agent_count}x{workers}"
    least = next(bar for *shape, bar in SHAPES if shape == [agent_count, workers])
    async with open_fleet(target, name) as opened, AsyncExitStack() as stack:
        for number in range(agent_count):
            words = ("agent", "--app", APP, "--workers", str(workers), "--host", f"host-{number}")
            await stack.enter_async_context(role(data, name, *words))
        # What is slow only at the start of an agent is not of interest: until each worker has had a task.
        while (await _run(opened, count, WARM_S)).workers < count:
            pass
        shown = await _run(opened, count, TASK_S)
    what = f"{count} one-second tasks on {agent_count} agent(s) of {workers} workers"
    speedup = count * TASK_S / shown.wall_s
    return [
        Figure(
            what=f"{what}, {shown.workers} used: efficiency {speedup / count:.0%}, speed-up",
            durability=opened.durability,
            value=speedup,
            unit="times",
            bar=least,
            is_ratio_judged=False,
        ),
        Figure(
            what=f"{what}: longest time a worker was idle while its queue held work",
            durability=opened.durability,
            value=shown.idle_s * 1000,
            unit="ms",
            bar=IDLE_MAX_MS,
            is_most=True,
            is_ratio_judged=False,
        ),
    ]


def read(records: Sequence[Recorded], worker_count: int) -> Shown:
    """What a log of tasks that all completed shows, of a fleet with so many workers."""
    offered: dict[str, float] = {}
    open_spans: list[Span] = []
    busy: dict[tuple[str, str], list[Span]] = {}
    claims: dict[str, tuple[tuple[str, str], float]] = {}
    last = 0.0
    for record in records:
        assert record.subject is not None
        task_id, at = record.subject.id, record.stored_at.timestamp()
        match record.event:
            case TaskQueued():
                offered[task_id] = at
            case TaskClaimed(agent_id=agent_id, worker_id=worker_id):
                open_spans.append((offered[task_id], at))
                claims[task_id] = ((agent_id, worker_id), at)
            case TaskCompleted():
                worker, began = claims[task_id]
                busy.setdefault(worker, []).append((began, at))
                last = max(last, at)
    first = min(offered.values())
    idle = [gap for spans in busy.values() for gap in _gaps(spans, first, last)]
    if len(busy) < worker_count:
        idle.append((first, last))  # a worker that had nothing at all
    return Shown(last - first, len(busy), _longest_overlap(idle, _merged(open_spans)))


def _gaps(spans: Iterable[Span], first: float, last: float) -> Iterable[Span]:
    at = first
    for began, ended in sorted(spans):
        if began > at:
            yield at, began
        at = max(at, ended)
    if last > at:
        yield at, last


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], ended)
        else:
            merged.append((began, ended))
    return merged


def _longest_overlap(ones: Iterable[Span], others: Sequence[Span]) -> float:
    overlaps = (min(one[1], other[1]) - max(one[0], other[0]) for one in ones for other in others)
    return max(0.0, max(overlaps, default=0.0))


async def _run(opened: Fleet, count: int, seconds: float) -> Shown:
    before = await opened.log.end()
    spec = TaskSpec(handler="nap", args=msgspec.Raw(b'{"seconds":%g}' % seconds))
    handles = await Client(opened).submit_many([spec] * count)
    await asyncio.gather(*(handle.result() for handle in handles))
    return read(await _records(opened, before), count)


async def _records(opened: Fleet, after: int) -> list[Recorded]:
    return [
        open_stored(stored)
        async for page in opened.log.read(after=after, subjects=tasks(opened.name))
        for stored in page
    ]
