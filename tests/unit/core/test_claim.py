"""Claims: of fresh and stale offers, of living and dead holders."""

from __future__ import annotations

import pytest

from fleetlog.bus.core import LOSSES_MAX, Refusal, Task, decide, evolve
from fleetlog.bus.core.refusal import RefusalCode
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.events import (
    TaskCancelled,
    TaskClaimed,
    TaskEvent,
    TaskExpired,
    TaskFailed,
)
from tests.given import (
    at,
    cancel_requested,
    cancelled,
    claim,
    claimed,
    complete,
    completed,
    fold,
    held,
    queued,
    record,
    retried,
    returned,
)


def test_an_offer_is_claimed_with_all_that_says_who_and_where() -> None:
    event = decide(claim(), fold(queued()), at(1))
    assert isinstance(event, TaskClaimed)
    assert (event.agent_id, event.worker_id, event.host) == ("a9", "w9", "h9")
    assert (event.ack, event.offer, event.attempt, event.over) == ("ack.9", 1, 1, None)


def test_a_claim_becomes_the_lease_and_its_sequence_the_fence() -> None:
    task = fold(queued(), claimed(ack="ack.1"))
    lease = task.lease
    assert lease is not None
    assert (lease.fence, lease.offer, lease.attempt, lease.ack) == (2, 1, 1, "ack.1")
    assert (lease.agent_id, lease.worker_id, lease.host) == ("a1", "w1", "h1")
    assert (lease.claimed_at, task.attempts) == (at(1), 1)


REFUSED: dict[str, tuple[list[TaskEvent], int, RefusalCode]] = {
    "of a held task": ([held()], 1, "stale_offer"),
    "of another offer of a queued task": ([queued()], 7, "stale_offer"),
    "of an offer that was offered anew": ([queued(), queued()], 1, "stale_offer"),
    "of an offer held by a living holder": ([queued(), claimed()], 1, "offer_held"),
    "of another offer of a claimed task": ([queued(), claimed()], 7, "stale_offer"),
    "of an offer whose attempt failed": ([queued(), claimed(), retried(2)], 1, "stale_offer"),
    "of an offer that was given back": ([queued(), claimed(), returned(2)], 1, "stale_offer"),
    "of the offer before the one that is claimed": (
        [queued(), claimed(), retried(2), queued(), claimed(4, 2)],
        1,
        "stale_offer",
    ),
    "of a completed task": ([queued(), claimed(), completed(2)], 1, "stale_offer"),
    "of a cancelled task": ([queued(), cancelled()], 1, "stale_offer"),
    "of a task of which only the outcome is left": ([completed(2)], 1, "stale_offer"),
    "of a task without events": ([], 1, "stale_offer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_claim_is_refused(case: str) -> None:
    given, offer, code = REFUSED[case]
    task = fold(*given)
    assert decide(claim(offer), task, at(99)) == Refusal(code, task)


@pytest.mark.parametrize("case", [name for name in REFUSED if "living" not in name])
def test_evidence_of_a_dead_holder_does_not_make_a_stale_offer_fresh(case: str) -> None:
    given, offer, _ = REFUSED[case]
    task = fold(*given)
    refusal = decide(claim(offer, over=2), task, at(99))
    assert refusal == Refusal("stale_offer", task)


def test_an_unreadable_task_is_not_claimed() -> None:
    task = fold(UnknownEvent("task.queued", "newer"))
    assert decide(claim(1), task, at(9)) == Refusal("stale_offer", task)


def test_takeover_of_a_dead_holder_names_its_fence_and_counts_a_loss() -> None:
    task = fold(queued(), claimed())
    event = decide(claim(over=2), task, at(60))
    assert isinstance(event, TaskClaimed)
    assert (event.offer, event.over, event.attempt) == (1, 2, 2)
    taken = evolve(task, record(3, event))
    assert taken.lease is not None
    assert (taken.lease.fence, taken.losses, taken.attempts, taken.failures) == (3, 1, 2, 0)
    assert taken.lease.agent_id == "a9"


def test_the_holder_that_was_thought_dead_has_lost_its_lease() -> None:
    task = fold(queued(), claimed(), claimed(attempt=2, over=2))
    assert decide(complete(2), task, at(99)) == Refusal("lease_lost", task)
    assert not isinstance(decide(complete(3), task, at(99)), Refusal)


def test_evidence_against_a_holder_is_none_against_the_one_that_took_its_place() -> None:
    task = fold(queued(), claimed(agent="a1"), claimed(agent="a2", attempt=2, over=2))
    assert decide(claim(agent="a3", over=2), task, at(99)) == Refusal("offer_held", task)


def test_takeover_at_the_bound_on_losses_fails_the_task() -> None:
    task = fold(queued(), claimed(), claimed(over=2), claimed(over=3))
    assert task.losses + 1 == LOSSES_MAX
    event = decide(claim(over=4), task, at(99))
    assert isinstance(event, TaskFailed)
    assert (event.error_class, event.fence, event.attempts) == ("lost", 4, 3)
    assert "a1 on h1" in event.error
    assert evolve(task, record(5, event)).status == "failed"


def test_takeover_of_a_task_whose_end_was_asked_for_cancels_it() -> None:
    task = fold(queued(), claimed(), cancel_requested())
    event = decide(claim(over=2), task, at(99))
    assert isinstance(event, TaskCancelled)
    assert event.fence == 2
    assert evolve(task, record(4, event)).status == "cancelled"


def test_no_attempt_starts_by_takeover_after_the_overall_time() -> None:
    task = fold(queued(expires_ms=60_000), claimed())
    assert isinstance(decide(claim(over=2), task, at(59.999)), TaskClaimed)
    event = decide(claim(over=2), task, at(60))
    assert isinstance(event, TaskFailed)
    assert (event.error_class, event.fence) == ("expired", 2)
    assert evolve(task, record(3, event)).status == "failed"


def test_start_within_does_not_end_a_running_task() -> None:
    task = fold(queued(start_within_ms=1_000), claimed())
    assert isinstance(decide(claim(over=2), task, at(99)), TaskClaimed)


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        ({"start_within_ms": 10_000}, "start_within"),
        ({"expires_ms": 10_000}, "expires"),
        ({"start_within_ms": 10_000, "expires_ms": 10_000}, "expires"),
        ({"start_within_ms": 10_000, "expires_ms": 20_000}, "start_within"),
    ],
)
def test_claim_of_an_offer_whose_time_ran_out_settles_it(rules: dict[str, int], limit: str) -> None:
    task = fold(queued(**rules))
    assert isinstance(decide(claim(), task, at(9.999)), TaskClaimed)
    event = decide(claim(), task, at(10))
    assert isinstance(event, TaskExpired)
    assert (event.limit, event.fence, event.attempts) == (limit, None, 0)
    assert evolve(task, record(2, event)).status == "expired"


def test_an_offer_whose_end_was_asked_for_is_cancelled_by_its_claim() -> None:
    """A foreign writer offered it although it should have been cancelled."""
    task = fold(queued(), claimed(), cancel_requested(), retried(2), queued())
    event = decide(claim(5), task, at(99))
    assert isinstance(event, TaskCancelled)
    assert event.fence is None


def test_a_task_without_a_fold_before_its_offer_is_claimed_with_its_number() -> None:
    """First delivery: an agent knows nothing but the offer."""
    offered = queued(progress={"attempt": 3, "failures": 1, "losses": 1, "submitted_at": at(0)})
    task = evolve(Task(id="t1"), record(41, offered))
    event = decide(claim(41), task, at(60))
    assert isinstance(event, TaskClaimed)
    assert event.attempt == 3
