"""Ends of attempts: outcomes, retries, returns, and leases that were lost."""

from __future__ import annotations

import pytest

from fleetlog.bus.core import LOSSES_MAX, Refusal, Task, decide, evolve
from fleetlog.bus.core.commands import Ending
from fleetlog.bus.core.decide import AnyCommand, backoff_ms
from fleetlog.schemas.durations import DURATION_MAX_MS
from fleetlog.schemas.events import (
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetried,
    TaskReturned,
    Usage,
    WorktreeReport,
)
from fleetlog.schemas.specs import Backoff
from tests.given import (
    at,
    cancel,
    cancel_requested,
    cancelled,
    claimed,
    complete,
    completed,
    expired,
    fail,
    failed,
    fold,
    give_back,
    held,
    queued,
    record,
    retried,
    returned,
)

RUNNING = fold(queued(), claimed())
CANCELLING = fold(queued(), claimed(), cancel_requested())
ENDS: dict[str, AnyCommand] = {
    "complete": complete(2),
    "fail": fail(2),
    "return": give_back(2),
    "cancel": cancel(2),
}
NOT_ITS_LEASE: dict[str, list[TaskEvent]] = {
    "absent": [],
    "held": [held()],
    "queued": [queued()],
    "claimed by another": [queued(), claimed(), returned(2), queued(), claimed(4, 2)],
    "taken over": [queued(), claimed(), claimed(over=2)],
    "waiting": [queued(), claimed(), retried(2)],
    "queued again": [queued(), claimed(), returned(2), queued()],
    "completed": [queued(), claimed(), completed(2)],
    "failed": [queued(), claimed(), failed(2)],
    "cancelled": [queued(), claimed(), cancelled(2)],
    "expired": [queued(), expired()],
    "trimmed": [completed(2)],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("given", NOT_ITS_LEASE)
def test_no_end_is_recorded_without_the_live_lease(end: str, given: str) -> None:
    task = fold(*NOT_ITS_LEASE[given])
    assert decide(ENDS[end], task, at(99)) == Refusal("lease_lost", task)


def test_completion_carries_result_digest_and_what_the_attempt_used() -> None:
    usage = Usage(input_tokens=1, output_tokens=2, cost_micro_usd=3, model="m")
    tree = WorktreeReport(repository="/src/shop", base="b", branch="fleetlog/t/1", commits=1)
    command = type(complete(2))(
        id="c",
        fence=2,
        result=complete(2).result,
        ran_ms=7,
        exit_code=0,
        usage=usage,
        worktree=tree,
    )
    event = decide(command, RUNNING, at(9))
    assert isinstance(event, TaskCompleted)
    assert (bytes(event.result), event.digest) == (b"42", RUNNING.digest)
    assert (event.ran_ms, event.exit_code, event.usage, event.worktree) == (7, 0, usage, tree)
    assert (event.fence, event.attempts) == (2, 1)
    settled = evolve(RUNNING, record(3, event))
    assert (settled.status, settled.lease, settled.outcome) == ("completed", None, event)


def test_completion_that_meets_only_a_cancel_request_is_completed() -> None:
    event = decide(complete(2), CANCELLING, at(9))
    assert isinstance(event, TaskCompleted)
    assert evolve(CANCELLING, record(4, event)).status == "completed"


@pytest.mark.parametrize("end", ["fail", "return", "cancel"])
def test_every_other_end_with_a_cancel_pending_is_cancelled(end: str) -> None:
    event = decide(ENDS[end], CANCELLING, at(9))
    assert isinstance(event, TaskCancelled)
    assert (event.fence, event.digest) == (2, CANCELLING.digest)
    assert evolve(CANCELLING, record(4, event)).status == "cancelled"


def test_permanent_failure_with_a_cancel_pending_is_cancelled() -> None:
    assert isinstance(decide(fail(2, is_permanent=True), CANCELLING, at(9)), TaskCancelled)


def test_the_last_loss_with_a_cancel_pending_is_cancelled() -> None:
    task = fold(queued(), claimed(), claimed(over=2), claimed(over=3), cancel_requested())
    assert isinstance(decide(give_back(4, "lost"), task, at(9)), TaskCancelled)


def test_a_failed_attempt_is_retried_after_the_backoff() -> None:
    event = decide(fail(2, jitter=0.5), RUNNING, at(9))
    assert isinstance(event, TaskRetried)
    assert (event.error_class, event.error, event.delay_ms) == ("error", "boom", 500)
    waiting = evolve(RUNNING, record(3, event, stored_at=at(9)))
    assert (waiting.status, waiting.failures, waiting.due_at) == ("waiting", 1, at(9.5))


def test_the_attempt_that_uses_up_max_attempts_fails_the_task() -> None:
    offer = queued(max_attempts=2)
    task = fold(offer, claimed(), retried(2), offer, claimed(4, 2))
    event = decide(fail(5), task, at(9))
    assert isinstance(event, TaskFailed)
    assert (event.attempts, event.error, event.digest) == (2, "boom", task.digest)


def test_a_returned_attempt_does_not_count_against_max_attempts() -> None:
    offer = queued(max_attempts=2)
    task = fold(offer, claimed(), returned(2, 1, "drained"), offer, claimed(4, 2))
    assert (task.attempts, task.failures, task.losses) == (2, 0, 0)
    assert isinstance(decide(fail(5), task, at(9)), TaskRetried)


def test_one_attempt_means_no_retry() -> None:
    assert isinstance(decide(fail(2), fold(queued(max_attempts=1), claimed()), at(9)), TaskFailed)


def test_a_permanent_failure_is_not_retried() -> None:
    assert isinstance(decide(fail(2, is_permanent=True), RUNNING, at(9)), TaskFailed)


def test_a_failure_after_the_overall_time_is_not_retried() -> None:
    task = fold(queued(expires_ms=10_000), claimed())
    assert isinstance(decide(fail(2), task, at(9.999)), TaskRetried)
    assert isinstance(decide(fail(2), task, at(10)), TaskFailed)


@pytest.mark.parametrize(
    ("wish_ms", "delay_ms"),
    [(0, 0), (77, 77), (-5, 0), (10**30, DURATION_MAX_MS)],
)
def test_the_attempts_own_wish_replaces_the_backoff_within_ten_years(
    wish_ms: int, delay_ms: int
) -> None:
    event = decide(fail(2, delay_ms=wish_ms), RUNNING, at(9))
    assert isinstance(event, TaskRetried)
    assert event.delay_ms == delay_ms
    back = decide(give_back(2, delay_ms=wish_ms), RUNNING, at(9))
    assert isinstance(back, TaskReturned)
    assert back.delay_ms == delay_ms


@pytest.mark.parametrize(
    ("failures", "jitter", "wait_ms"),
    [
        (1, 0.0, 0),
        (1, 1.0, 1_000),
        (2, 1.0, 2_000),
        (3, 1.0, 4_000),
        (3, 0.25, 1_000),
        (9, 1.0, 256_000),
        (10, 1.0, 300_000),
        (1_000, 1.0, 300_000),
        (0, 1.0, 1_000),
        (-7, 1.0, 1_000),
    ],
)
def test_the_wait_doubles_up_to_its_longest_and_the_jitter_takes_any_part_of_it(
    failures: int, jitter: float, wait_ms: int
) -> None:
    assert backoff_ms(Backoff(), failures, jitter) == wait_ms


def test_a_longest_wait_below_the_first_wins() -> None:
    assert backoff_ms(Backoff(first_ms=500, max_ms=100), 1, 1.0) == 100
    assert backoff_ms(Backoff(first_ms=0), 9, 1.0) == 0


def test_failures_not_attempts_drive_the_backoff() -> None:
    task = fold(queued(), claimed(), returned(2, 1, "drained"), queued(), claimed(4, 2))
    event = decide(fail(5, jitter=1.0), task, at(9))
    assert isinstance(event, TaskRetried)
    assert event.delay_ms == 1_000


@pytest.mark.parametrize("error_class", ["drained", "deferred", "rate_limit_of_tomorrow"])
def test_returns_for_other_reasons_are_not_bounded(error_class: str) -> None:
    task = fold(queued(), claimed(), claimed(over=2), claimed(over=3))
    event = decide(give_back(4, error_class, delay_ms=50), task, at(9))
    assert isinstance(event, TaskReturned)
    waiting = evolve(task, record(5, event, stored_at=at(9)))
    assert (waiting.losses, waiting.failures, waiting.due_at) == (2, 0, at(9.05))


def test_the_third_loss_fails_the_task() -> None:
    task: Task = fold(queued())
    for turn in range(1, LOSSES_MAX + 1):
        task = evolve(task, record(task.version + 1, claimed(task.offer, turn)))
        event = decide(give_back(task.version, "lost"), task, at(9))
        assert not isinstance(event, Refusal)
        task = evolve(task, record(task.version + 1, event))
        if turn < LOSSES_MAX:
            assert (task.status, task.losses) == ("waiting", turn)
            task = evolve(task, record(task.version + 1, queued()))
    assert isinstance(task.outcome, TaskFailed)
    assert (task.outcome.error_class, task.outcome.attempts) == ("lost", LOSSES_MAX)


def test_losses_by_takeover_and_by_return_count_together() -> None:
    task = fold(queued(), claimed(), claimed(over=2), returned(3, 2), queued(), claimed(5, 3))
    assert task.losses == 2
    assert isinstance(decide(give_back(6, "lost"), task, at(9)), TaskFailed)


def test_every_end_is_an_ending_of_its_fence() -> None:
    for command in ENDS.values():
        assert isinstance(command, Ending)
        assert command.fence == 2


def test_the_last_failure_and_the_last_loss_count_too() -> None:
    once = fold(queued(), claimed(), failed(2))
    lost = fold(queued(), claimed(), failed(2, error_class="lost"))
    barrier = fold(held(), failed(None))
    assert (once.failures, once.losses) == (1, 0)
    assert (lost.failures, lost.losses) == (0, 1)
    assert (barrier.failures, barrier.losses) == (0, 0)


@pytest.mark.parametrize("end", [fail(2), give_back(2), cancel(2)])
def test_the_reason_of_a_cancel_request_stands_in_the_outcome(end: AnyCommand) -> None:
    task = fold(queued(), claimed(), cancel_requested(reason="changed my mind"))
    event = decide(end, task, at(9))
    assert isinstance(event, TaskCancelled)
    assert event.reason == "changed my mind"
