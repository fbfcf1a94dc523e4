"""Ends that come from outside: people who cancel, and time."""

from __future__ import annotations

import pytest

from fleetlog.bus.core import Refusal, Task, decide, evolve
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.events import TaskCancelled, TaskCancelRequested, TaskEvent, TaskExpired
from tests.given import (
    at,
    cancel_requested,
    cancelled,
    claimed,
    completed,
    expire,
    expired,
    failed,
    fold,
    held,
    queued,
    record,
    request_cancel,
    retried,
)

NOT_RUNNING: dict[str, list[TaskEvent]] = {
    "held": [held()],
    "queued": [queued()],
    "waiting": [queued(), claimed(), retried(2)],
}
SETTLED: dict[str, list[TaskEvent]] = {
    "completed": [queued(), claimed(), completed(2)],
    "failed": [queued(), claimed(), failed(2)],
    "cancelled": [queued(), cancelled()],
    "expired": [queued(), expired()],
    "completed and trimmed": [completed(2)],
}


@pytest.mark.parametrize("state", NOT_RUNNING)
def test_cancel_of_a_task_that_does_not_run_ends_it_at_once(state: str) -> None:
    task = fold(*NOT_RUNNING[state])
    event = decide(request_cancel(), task, at(9))
    assert isinstance(event, TaskCancelled)
    assert (event.fence, event.attempts, event.digest) == (None, task.attempts, task.digest)
    after = evolve(task, record(9, event))
    assert (after.status, after.due_at, after.outcome) == ("cancelled", None, event)


def test_cancel_of_a_running_task_asks_its_agent() -> None:
    task = fold(queued(), claimed())
    event = decide(request_cancel(), task, at(9))
    assert isinstance(event, TaskCancelRequested)
    asked = evolve(task, record(3, event))
    assert (asked.status, asked.is_cancel_requested, asked.lease) == ("claimed", True, task.lease)


def test_a_second_cancel_of_a_running_task_is_refused() -> None:
    task = fold(queued(), claimed(), cancel_requested())
    assert decide(request_cancel(), task, at(9)) == Refusal("cancel_pending", task)


@pytest.mark.parametrize("state", SETTLED)
def test_cancel_of_a_settled_task_is_refused(state: str) -> None:
    task = fold(*SETTLED[state])
    assert decide(request_cancel(), task, at(9)) == Refusal("already_settled", task)


def test_cancel_of_a_task_that_never_was_is_refused() -> None:
    task = Task(id="t1")
    assert decide(request_cancel(), task, at(9)) == Refusal("not_found", task)


def test_cancel_of_an_unreadable_task_is_refused() -> None:
    task = fold(UnknownEvent(None, "not JSON"))
    assert decide(request_cancel(), task, at(9)) == Refusal("unreadable", task)


@pytest.mark.parametrize(
    "given",
    [
        [held(60_000, expires_ms=10_000)],
        [queued(expires_ms=10_000)],
        [queued(expires_ms=10_000), claimed(), retried(2)],
    ],
    ids=["held", "queued", "waiting"],
)
def test_a_task_not_started_expires_from_its_first_event_on(given: list[TaskEvent]) -> None:
    task = fold(*given)
    assert decide(expire(), task, at(9.999)) == Refusal("not_due", task)
    event = decide(expire(), task, at(10))
    assert isinstance(event, TaskExpired)
    assert (event.limit, event.digest) == ("expires", task.digest)
    assert evolve(task, record(9, event)).status == "expired"


def test_start_within_counts_from_the_offer_not_from_the_submit() -> None:
    task = fold(queued(start_within_ms=5_000), claimed(), retried(2), queued(start_within_ms=5_000))
    assert decide(expire(), task, at(7.999)) == Refusal("not_due", task)
    event = decide(expire(), task, at(8))
    assert isinstance(event, TaskExpired)
    assert event.limit == "start_within"


@pytest.mark.parametrize(
    "given",
    [
        [held(60_000, start_within_ms=1)],
        [queued(start_within_ms=1), claimed(), retried(2)],
        [queued(expires_ms=1), claimed()],
        [queued(expires_ms=1), claimed(), completed(2)],
        [queued()],
        [completed(2)],
        [],
    ],
    ids=["held", "waiting", "claimed", "completed", "without limits", "trimmed", "absent"],
)
def test_nothing_else_expires(given: list[TaskEvent]) -> None:
    task = fold(*given)
    assert decide(expire(), task, at(50)) == Refusal("not_due", task)
