"""What the benchmark of parallel work reads out of a log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleetlog.cli.benchmarks.parallel import read
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import TaskClaimed, TaskCompleted, TaskEvent, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def record(at_s: float, task_id: str, event: TaskEvent) -> Recorded:
    subject = Subject("f", "task", task_id, "x", "default", "normal")
    return Recorded(1, T0 + timedelta(seconds=at_s), subject, event)


def life(task_id: str, worker: str, queued: float, claimed: float, ended: float) -> list[Recorded]:
    queue = TaskQueued(id="e", occurred_at=T0, spec=TaskSpec(handler="nap"), digest="d")
    claim = TaskClaimed(
        id="e", occurred_at=T0, agent_id="a", worker_id=worker, host="h", attempt=1, offer=1
    )
    end = TaskCompleted(id="e", occurred_at=T0, attempts=1, fence=2)
    return [
        record(queued, task_id, queue),
        record(claimed, task_id, claim),
        record(ended, task_id, end),
    ]


def test_a_worker_is_idle_in_vain_only_while_an_offer_stands_open() -> None:
    shown = read([*life("t1", "w1", 0, 0.25, 1.25), *life("t2", "w2", 0, 0.5, 1.5)], 2)
    assert shown.wall_s == pytest.approx(1.5)
    assert shown.workers == 2
    assert shown.idle_s == pytest.approx(0.5)


def test_between_two_tasks_with_nothing_queued_it_is_not() -> None:
    shown = read([*life("t1", "w1", 0, 0, 1), *life("t2", "w1", 3, 3.125, 4)], 1)
    assert shown.idle_s == pytest.approx(0.125)


def test_a_worker_that_had_nothing_counts() -> None:
    shown = read([*life("t1", "w1", 0, 0, 1), *life("t2", "w1", 0, 1, 2)], 2)
    assert shown.workers == 1
    assert shown.idle_s == pytest.approx(1)
