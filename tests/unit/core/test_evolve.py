"""What events make of a task, and that what does not fit moves only the version."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import msgspec
import pytest

from fleetlog.bus.core import Task, evolve, permits
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.events import AgentDraining, AnyEvent, TaskEvent, WorkerSpawned, verb_of
from tests.given import (
    T0,
    at,
    cancel_requested,
    cancelled,
    claimed,
    completed,
    expired,
    failed,
    fold,
    held,
    queued,
    record,
    retried,
    returned,
)

STATES: dict[str, list[TaskEvent]] = {
    "absent": [],
    "held": [held()],
    "queued": [queued()],
    "claimed": [queued(), claimed()],
    "cancelling": [queued(), claimed(), cancel_requested()],
    "waiting": [queued(), claimed(), retried(2)],
    "completed": [queued(), claimed(), completed(2)],
    "failed": [queued(), claimed(), failed(2)],
    "cancelled": [queued(), cancelled()],
    "expired": [queued(), expired()],
    "trimmed": [completed(2)],
}
NEXT: dict[str, AnyEvent | UnknownEvent] = {
    "held": held(),
    "queued": queued(),
    "claimed": claimed(1),
    "claimed over": claimed(1, over=2),
    "retried": retried(2),
    "returned": returned(2),
    "completed": completed(2),
    "completed without a fence": completed(None),
    "failed": failed(2),
    "failed without a fence": failed(None),
    "cancelled": cancelled(2),
    "cancelled without a fence": cancelled(),
    "expired": expired(),
    "expired with a fence": expired(2),
    "cancel_requested": cancel_requested(),
    "unknown": UnknownEvent("task.paused", "newer"),
    "of an agent": AgentDraining(id="e", occurred_at=T0),
    "of a worker": WorkerSpawned(id="e", occurred_at=T0, host="h1", pid=1),
}
OUTCOMES = {"completed", "failed", "cancelled", "expired"}
UNCLAIMED = {"failed without a fence", "cancelled without a fence", "expired"}
ENDS = {"retried", "returned", "completed", "failed", "cancelled"}
ALLOWED: dict[str, set[str]] = {
    "absent": {"held", "queued", *(name for name in NEXT if name.split()[0] in OUTCOMES)},
    "held": {"held", "queued"} | UNCLAIMED,
    "queued": {"held", "queued", "claimed"} | UNCLAIMED,
    "claimed": {"claimed over", "cancel_requested"} | ENDS,
    "cancelling": {"claimed over"} | ENDS,
    "waiting": {"held", "queued"} | UNCLAIMED,
    **{state: set() for state in ("completed", "failed", "cancelled", "expired", "trimmed")},
}


@pytest.mark.parametrize(("state", "name"), list(product(STATES, NEXT)))
def test_exactly_the_allowed_events_change_more_than_the_version(state: str, name: str) -> None:
    task = fold(*STATES[state])
    after = evolve(task, record(50, NEXT[name]))
    assert after.version == 50
    assert permits(task, NEXT[name]) is (name in ALLOWED[state])
    if name not in ALLOWED[state]:
        assert msgspec.structs.replace(after, version=task.version) == task


@pytest.mark.parametrize(
    ("given", "event"),
    [
        ([queued()], claimed(7)),
        ([queued()], claimed(1, over=1)),
        ([queued(), claimed()], claimed(1)),
        ([queued(), claimed()], claimed(1, over=1)),
        ([queued(), claimed()], claimed(7, over=2)),
        ([queued(), claimed()], completed(3)),
        ([queued(), claimed()], retried(1)),
        ([queued(), claimed()], failed(9)),
        ([queued(), claimed()], cancelled(None)),
        ([queued(), claimed(), returned(2), queued()], completed(2)),
        ([queued(), claimed(), returned(2), queued()], failed(2)),
        ([queued(), claimed(), returned(2)], cancelled(2)),
        ([queued(), claimed(), returned(2), queued(), claimed(4, 2)], returned(2)),
        ([queued(), claimed(), returned(2), queued()], claimed(1)),
    ],
)
def test_what_a_stale_worker_or_agent_says_changes_nothing(
    given: list[TaskEvent], event: TaskEvent
) -> None:
    task = fold(*given)
    assert not permits(task, event)
    assert evolve(task, record(50, event)) == msgspec.structs.replace(task, version=50)


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_an_event_seen_already_changes_nothing_at_all(seq: int) -> None:
    task = fold(queued(), claimed(), retried(2))
    assert evolve(task, record(seq, cancelled())) is task


def test_an_event_after_a_gap_in_the_log_is_the_next_of_its_task() -> None:
    assert evolve(fold(queued()), record(1_000, claimed(1))).version == 1_000


def test_held_task_remembers_when_it_came_and_when_it_is_due() -> None:
    task = fold(held(5_000))
    assert (task.submitted_at, task.since, task.due_at) == (at(0), at(0), at(5))
    task = evolve(task, record(2, queued(delay_ms=5_000), stored_at=at(6)))
    assert (task.submitted_at, task.since, task.due_at, task.offer) == (at(0), at(6), None, 2)


def test_offered_anew_the_later_offer_counts() -> None:
    task = fold(queued(), queued())
    assert (task.offer, task.since, task.submitted_at) == (2, at(1), at(0))


def test_a_fold_may_begin_with_an_offer() -> None:
    progress = {"attempt": 3, "failures": 1, "losses": 1, "submitted_at": at(-50)}
    task = evolve(Task(id="t1"), record(41, queued(progress=progress)))
    assert (task.status, task.version, task.offer) == ("queued", 41, 41)
    assert (task.attempts, task.failures, task.losses) == (2, 1, 1)
    assert task.submitted_at == at(-50)


def test_in_a_full_fold_the_events_count_and_not_what_an_offer_says() -> None:
    boast = {"attempt": 9, "failures": 8, "losses": 7, "submitted_at": at(-50)}
    task = fold(queued(), claimed(), retried(2), queued(progress=boast))
    assert (task.attempts, task.failures, task.losses) == (1, 1, 0)
    assert task.submitted_at == at(0)


def test_the_outcome_of_a_trimmed_task_keeps_its_count_of_attempts() -> None:
    task = fold(failed(7, attempts=3, digest="d"))
    assert (task.status, task.attempts, task.digest, task.version) == ("failed", 3, "d", 1)
    assert task.is_settled


def test_an_outcome_cannot_take_claims_back() -> None:
    assert fold(queued(), claimed(), completed(2, attempts=0)).attempts == 1


@pytest.mark.parametrize(
    "rest",
    [
        [claimed(1), completed(2)],
        [retried(2), claimed(4, 2), completed(5)],
        [cancel_requested(), cancelled(2)],
        [returned(2), returned(5), failed(8)],
    ],
)
def test_a_task_trimmed_verb_by_verb_stays_settled(rest: list[TaskEvent]) -> None:
    """Offers are gone, later verbs not yet; a crash may leave the log like this for long."""
    assert fold(*rest).is_settled


def test_an_outcome_can_be_read_behind_a_history_that_cannot() -> None:
    task = fold(UnknownEvent("task.queued", "newer"), completed(2, digest="d"))
    assert (task.status, task.digest) == ("completed", "d")


def test_a_task_can_be_offered_behind_a_history_that_cannot_be_read() -> None:
    assert fold(UnknownEvent("task.held", "newer"), queued()).status == "queued"


@pytest.mark.parametrize("delay_ms", [-1, -(10**30), 10**30, 2**63])
def test_a_foreign_delay_beyond_all_measure_does_not_stop_the_fold(delay_ms: int) -> None:
    task = fold(queued(), claimed(), returned(2, delay_ms=delay_ms))
    expected = at(2) if delay_ms < 0 else datetime.max.replace(tzinfo=UTC)
    assert (task.status, task.due_at) == ("waiting", expected)


def test_every_verb_of_a_task_stands_in_the_table() -> None:
    named = {verb_of(event) for event in NEXT.values() if not isinstance(event, UnknownEvent)}
    assert named >= {
        *("held", "queued", "claimed", "retried", "returned"),
        *("completed", "failed", "cancelled", "expired", "cancel_requested"),
    }
