"""How soon a coordinator acts again after a restart, with much unsettled and much behind it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.log import Append, entry
from fleetlog.bus.snapshots import Snapshots
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.roles import coordinator_ready, peak_mb, role
from fleetlog.schemas.events import Event, TaskClaimed, TaskCompleted, TaskQueued, verb_of
from fleetlog.schemas.specs import NO_ARGS, TaskSpec
from fleetlog.schemas.subjects import Subject, tasks

UNSETTLED_PART: Final = 10
"""One task that is not settled for so many events."""
AFTER_PART: Final = 100
"""One event behind the snapshot for so many before it."""
PAGE: Final = 3_000
_STAGES: Final = 3
"""Events of a task that has settled."""


async def measure_restart(target: Target, data: Path, fleet: str, events: int) -> list[Figure]:
    """The log is filled, a coordinator reads it and leaves a snapshot, more comes, and it starts again.

    Args:
        target: the server.
        data: its folder, by which roles find it.
        fleet: an unused name.
        events: so many before the snapshot.
    """
    async with open_fleet(target, fleet) as opened:
        waiting = TaskSpec(handler="noop", delay_ms=86_400_000)
        unsettled = events // UNSETTLED_PART
        await Client(opened).submit_many([waiting] * unsettled)
        await _settle_tasks(opened, "before", events - unsettled)
        async with role(data, fleet, "coordinator"):
            await coordinator_ready(opened)
        assert await Snapshots(opened.objects, opened.log).load() is not None
        await _settle_tasks(opened, "after", events // AFTER_PART)
        soon = await Client(opened).submit(TaskSpec(handler="noop", delay_ms=1))
        started = time.perf_counter()
        async with role(data, fleet, "coordinator") as pid:
            queued = f"{tasks(fleet, verb='queued').replace('*', soon.task_id, 1)}"
            async for _ in opened.log.follow(after=soon.seq, subjects=queued):
                break
            took_s = time.perf_counter() - started
            memory = peak_mb(pid)
        durability = opened.durability
    what = f"coordinator's restart, {unsettled:,} tasks unsettled, {events:,} events before"
    return [
        Figure(
            what=f"{what}, until it acts",
            durability=durability,
            value=took_s,
            unit="s",
            bar=5.0,
            is_most=True,
            is_ratio_judged=False,
        ),
        Figure(
            what=f"{what}, memory",
            durability=durability,
            value=memory,
            unit="MB",
            bar=500.0,
            is_most=True,
            is_ratio_judged=False,
        ),
    ]


async def _settle_tasks(opened: Fleet, name: str, events: int) -> None:
    """Appends whole lives of tasks, stage by stage, as many at once as a page."""
    for start in range(0, events // _STAGES, PAGE):
        ids = [f"{name}-{n}" for n in range(start, min(start + PAGE, events // _STAGES))]
        seqs = [0] * len(ids)
        for stage in range(_STAGES):
            appends = [
                _life(opened, task_id, stage, seq) for task_id, seq in zip(ids, seqs, strict=True)
            ]
            answers = [opened.log.append(each) for each in appends]
            seqs = [await each for each in answers]


def _life(opened: Fleet, task_id: str, stage: int, before: int) -> Append:
    stamp: dict[str, Any] = {"id": f"{task_id}-{stage}", "occurred_at": opened.log.now()}
    event: Event
    if stage == 0:
        event = TaskQueued(spec=TaskSpec(handler="noop"), digest="d", **stamp)
    elif stage == 1:
        place: dict[str, Any] = {"agent_id": "a", "worker_id": "w1", "host": "h"}
        event = TaskClaimed(attempt=1, offer=before, **place, **stamp)
    else:
        event = TaskCompleted(attempts=1, fence=before, result=NO_ARGS, **stamp)
    subject = Subject(opened.name, "task", task_id, verb_of(event), "default", "normal")
    return entry(subject, before, event)
