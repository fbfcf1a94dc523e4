"""What becomes of a submit whose id or key is there already."""

from __future__ import annotations

from typing import Any

import pytest

from fleetlog.bus.core import Refusal, Task, decide
from fleetlog.bus.core.commands import OnDuplicate, Submit
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.events import TaskHeld, TaskQueued
from fleetlog.schemas.specs import payload_digest
from tests.given import (
    at,
    cancelled,
    claimed,
    completed,
    fold,
    held,
    queued,
    retried,
    spec,
)


def submitted(task: Task, on_duplicate: OnDuplicate, **rules: Any) -> Any:
    whole = spec(**rules)
    command = Submit(id="new", spec=whole, digest=payload_digest(whole), on_duplicate=on_duplicate)
    return decide(command, task, at(9))


@pytest.mark.parametrize("task", [fold(queued()), fold(held())])
def test_what_has_not_started_is_replaced(task: Task) -> None:
    event = submitted(task, "replace", handler="other", priority="high")
    assert isinstance(event, TaskQueued)
    assert (event.spec.handler, event.spec.priority) == ("other", "high")
    assert event.submitted_at == task.submitted_at
    later = submitted(task, "replace", delay_ms=5)
    assert isinstance(later, TaskHeld)
    assert isinstance(submitted(task, "replace", limits=("k",)), TaskHeld)


def test_a_replaced_task_is_the_new_one() -> None:
    event = submitted(fold(held(delay_ms=50_000)), "replace", handler="other", delay_ms=7)
    task = fold(held(delay_ms=50_000), event)
    assert task.spec is not None
    assert (task.status, task.spec.handler, task.digest) == ("held", "other", event.digest)
    assert task.due_at is not None
    assert task.since is not None
    assert (task.due_at - task.since).total_seconds() == 0.007
    assert (task.version, task.submitted_at) == (2, fold(held()).submitted_at)


@pytest.mark.parametrize(
    "task",
    [
        fold(queued(), claimed()),
        fold(queued(), claimed(), retried(2)),
        fold(queued(), claimed(), completed(2)),
        fold(queued(), cancelled()),
        fold(queued(barrier_id="b")),
        fold(held(after=("t0",))),
        fold(held(budget=Budget(tokens=1))),
    ],
)
def test_what_has_started_or_hangs_together_is_not_replaced(task: Task) -> None:
    answer = submitted(task, "replace")
    assert isinstance(answer, Refusal)
    assert answer.code == "duplicate"
    other = submitted(task, "replace", handler="other")
    assert isinstance(other, Refusal)
    assert other.code == "key_taken"


def test_what_is_there_is_refused_if_it_must_be_new() -> None:
    assert isinstance(submitted(Task(id="t1"), "refuse"), TaskQueued)
    answer = submitted(fold(queued()), "refuse")
    assert isinstance(answer, Refusal)
    assert answer.code == "exists"
