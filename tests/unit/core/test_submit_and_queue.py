"""Making a task and offering it."""

from __future__ import annotations

import pytest

from fleetlog.bus.core import Refusal, Task, decide
from fleetlog.bus.core.commands import GiveUp, Queue
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.events import TaskCancelled, TaskFailed, TaskHeld, TaskQueued
from fleetlog.schemas.specs import payload_digest
from tests.given import (
    at,
    cancel_requested,
    cancelled,
    claimed,
    completed,
    expired,
    failed,
    fold,
    held,
    queue,
    queued,
    retried,
    returned,
    submit,
)

ABSENT = Task(id="t1")
EVERY_STATE = {
    "held": fold(held()),
    "queued": fold(queued()),
    "claimed": fold(queued(), claimed()),
    "waiting": fold(queued(), claimed(), retried(2)),
    "completed": fold(queued(), claimed(), completed(2)),
    "failed": fold(queued(), claimed(), failed(2)),
    "cancelled": fold(queued(), cancelled()),
    "expired": fold(queued(), expired()),
}


def test_submit_offers_the_task_at_once() -> None:
    event = decide(submit(), ABSENT, at(0))
    assert isinstance(event, TaskQueued)
    assert (event.id, event.occurred_at, event.attempt, event.failures) == ("c", at(0), 1, 0)
    assert event.digest == payload_digest(event.spec)
    assert event.submitted_at is None


def test_submit_with_a_delay_holds_the_task() -> None:
    event = decide(submit(delay_ms=1), ABSENT, at(0))
    assert isinstance(event, TaskHeld)
    assert event.spec.delay_ms == 1


def test_what_led_to_a_command_stands_in_its_event() -> None:
    command = submit()
    named = type(command)(
        id="c",
        spec=command.spec,
        digest=command.digest,
        cause="e0",
        actor="ann",
        reason="because",
    )
    event = decide(named, ABSENT, at(0))
    assert isinstance(event, TaskQueued)
    assert (event.cause, event.actor, event.reason) == ("e0", "ann", "because")


@pytest.mark.parametrize("state", EVERY_STATE)
def test_the_same_submit_in_any_state_is_the_same_task(state: str) -> None:
    task = EVERY_STATE[state]
    assert task.status == state
    assert decide(submit(), task, at(9)) == Refusal("duplicate", task)


@pytest.mark.parametrize("state", EVERY_STATE)
def test_another_payload_under_a_taken_id_is_refused_in_any_state(state: str) -> None:
    task = EVERY_STATE[state]
    assert decide(submit(handler="other"), task, at(9)) == Refusal("key_taken", task)


def test_another_priority_or_queue_is_the_same_task() -> None:
    task = EVERY_STATE["queued"]
    again = submit(priority="high", queue="q2", labels={"a": "b"}, timeout_ms=1)
    assert decide(again, task, at(9)) == Refusal("duplicate", task)


def test_an_id_with_unreadable_history_cannot_be_submitted() -> None:
    task = fold(UnknownEvent("task.paused", "newer"))
    assert decide(submit(), task, at(9)) == Refusal("unreadable", task)


def test_of_a_trimmed_task_the_digest_is_still_compared() -> None:
    task = fold(completed(2, digest=submit().digest))
    assert (task.status, task.spec) == ("completed", None)
    assert decide(submit(), task, at(9)) == Refusal("duplicate", task)
    assert decide(submit(handler="other"), task, at(9)) == Refusal("key_taken", task)


def test_a_trimmed_task_without_a_digest_keeps_its_id() -> None:
    task = fold(completed(2))
    assert decide(submit(handler="other"), task, at(9)) == Refusal("duplicate", task)


def test_held_task_is_offered_when_its_delay_is_over() -> None:
    task = fold(held(delay_ms=5_000))
    assert decide(queue(), task, at(4.999)) == Refusal("not_due", task)
    event = decide(queue(), task, at(5))
    assert isinstance(event, TaskQueued)
    assert (event.spec, event.digest, event.attempt) == (task.spec, task.digest, 1)
    assert event.submitted_at == at(0)


def test_waiting_task_is_offered_with_its_counts_when_its_delay_is_over() -> None:
    first = (queued(), claimed(), returned(2), queued(), claimed(4, 2), retried(5, 2))
    task = fold(*first)
    assert decide(queue(), task, at(5.999)) == Refusal("not_due", task)
    event = decide(queue(), task, at(6))
    assert isinstance(event, TaskQueued)
    assert (event.attempt, event.failures, event.losses) == (3, 1, 1)
    assert event.submitted_at == at(0)


@pytest.mark.parametrize(
    "state", ["queued", "claimed", "completed", "failed", "cancelled", "expired"]
)
def test_only_held_and_waiting_tasks_are_offered(state: str) -> None:
    task = EVERY_STATE[state]
    assert decide(queue(), task, at(999)) == Refusal("not_due", task)


def test_a_task_that_never_was_is_not_offered() -> None:
    assert decide(queue(), ABSENT, at(0)) == Refusal("not_due", ABSENT)


def test_waiting_task_whose_end_was_asked_for_is_cancelled_instead_of_offered() -> None:
    task = fold(queued(), claimed(), cancel_requested(), retried(2))
    event = decide(queue(), task, at(99))
    assert isinstance(event, TaskCancelled)
    assert (event.fence, event.attempts) == (None, 1)


def test_what_waits_for_tasks_is_queued_only_by_who_knows_of_them() -> None:
    for rules in ({"after": ("x",)}, {"continues": "b"}):
        task = fold(held(delay_ms=0, **rules))
        assert decide(queue(), task, at(9)) == Refusal("not_due", task)
        assert isinstance(decide(Queue(id="c", is_open=True), task, at(9)), TaskQueued)


def test_only_what_waits_for_tasks_can_be_given_up() -> None:
    give_up = GiveUp(id="c", error="x failed")
    for name, task in EVERY_STATE.items():
        assert decide(give_up, task, at(9)) == Refusal("not_due", task), name
    event = decide(give_up, fold(held(delay_ms=0, after=("x",))), at(9))
    assert isinstance(event, TaskFailed)
    assert (event.error_class, event.error, event.fence) == ("dependency", "x failed", None)
