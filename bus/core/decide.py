"""`decide`: the one event that a command leads to in a task's present state, or why it is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, assert_never

from fleetlog.bus.core.commands import (
    Cancel,
    Claim,
    Command,
    Complete,
    Ending,
    Expire,
    Fail,
    GiveAnswer,
    GiveUp,
    Hold,
    OfferAgain,
    Queue,
    RequestCancel,
    Return,
    Submit,
)
from fleetlog.bus.core.offering import (
    answer,
    cancelled,
    give_up,
    hold,
    offer_again,
    queue,
    submit,
)
from fleetlog.bus.core.refusal import Refusal, stamp
from fleetlog.bus.core.task import LOSSES_MAX, Lease, Task, instant_after
from fleetlog.schemas.durations import DURATION_MAX_MS
from fleetlog.schemas.events import (
    TaskCancelled,
    TaskCancelRequested,
    TaskClaimed,
    TaskCompleted,
    TaskEvent,
    TaskExpired,
    TaskFailed,
    TaskRetried,
    TaskReturned,
)
from fleetlog.schemas.questions import ANSWERS_MAX
from fleetlog.schemas.specs import Backoff, TaskSpec

AnyCommand = (
    Submit
    | Queue
    | OfferAgain
    | Hold
    | GiveAnswer
    | GiveUp
    | Claim
    | Complete
    | Fail
    | Return
    | RequestCancel
    | Cancel
    | Expire
)


def decide(command: AnyCommand, task: Task, now: datetime) -> TaskEvent | Refusal:
    """The event to append with `task.version` as the guard's sequence, or a refusal.

    Args:
        command: what is wanted.
        task: the fold of the task's events.
        now: the log's time as well as the caller knows it.
    """
    match command:  # what a task has most of comes first
        case Claim():
            return _claim(command, task, now)
        case Complete() | Fail() | Return() | Cancel():
            return _end(command, task, now)
        case Submit():
            return submit(command, task, now)
        case Queue():
            return queue(command, task, now)
        case OfferAgain():
            return offer_again(command, task, now)
        case Hold():
            return hold(command, task, now)
        case GiveAnswer():
            return answer(command, task, now)
        case GiveUp():
            return give_up(command, task, now)
        case RequestCancel():
            return _request_cancel(command, task, now)
        case Expire():
            return _expire(command, task, now)
        case _:
            assert_never(command)


def passed_limit(task: Task, now: datetime) -> Literal["start_within", "expires"] | None:
    """The time that a task not yet started has let pass, if any."""
    if task.spec is None or task.submitted_at is None or task.since is None:
        return None
    if _is_past(task.submitted_at, task.spec.expires_ms, now):
        return "expires"
    if task.status == "queued" and _is_past(task.since, task.spec.start_within_ms, now):
        return "start_within"
    return None


def backoff_ms(backoff: Backoff, failures: int, jitter: float) -> int:
    """The wait after failure number `failures` (from 1), with full jitter: any part of the longest wait."""
    longest = min(backoff.max_ms, backoff.first_ms << max(0, min(failures - 1, 40)))
    return round(longest * jitter)


def _is_past(start: datetime, limit_ms: int | None, now: datetime) -> bool:
    return limit_ms is not None and instant_after(start, limit_ms) <= now


def _claim(command: Claim, task: Task, now: datetime) -> TaskEvent | Refusal:
    if task.status == "queued" and command.offer == task.offer:
        if task.is_cancel_requested:
            return cancelled(command, task, now)
        limit = passed_limit(task, now)
        return _expired(command, task, now, limit) if limit else _claimed(command, task, now)
    if task.lease is None or command.offer != task.lease.offer:
        return Refusal("stale_offer", task)
    if command.over != task.lease.fence:
        return Refusal("offer_held", task)
    if task.is_cancel_requested:
        return cancelled(command, task, now, task.lease.fence)
    if task.losses + 1 >= LOSSES_MAX:
        return _failed_with_holder(command, task, task.lease, now, is_expired=False)
    if passed_limit(task, now) == "expires":
        return _failed_with_holder(command, task, task.lease, now, is_expired=True)
    return _claimed(command, task, now, over=task.lease.fence)


def _failed_with_holder(
    command: Claim, task: Task, lease: Lease, now: datetime, *, is_expired: bool
) -> TaskFailed:
    return TaskFailed(
        attempts=task.attempts,
        fence=lease.fence,
        error_class="expired" if is_expired else "lost",
        error=_expired_message(lease) if is_expired else _lost_message(lease),
        digest=task.digest,
        **stamp(command, now),
    )


def _claimed(command: Claim, task: Task, now: datetime, over: int | None = None) -> TaskClaimed:
    return TaskClaimed(
        agent_id=command.agent_id,
        worker_id=command.worker_id,
        host=command.host,
        attempt=task.attempts + 1,
        offer=command.offer,
        ack=command.ack,
        over=over,
        **stamp(command, now),
    )


def _request_cancel(command: RequestCancel, task: Task, now: datetime) -> TaskEvent | Refusal:
    if task.status == "absent":
        return Refusal("unreadable" if task.version else "not_found", task)
    if task.is_settled:
        return Refusal("already_settled", task)
    if task.status != "claimed":
        return cancelled(command, task, now)
    if task.is_cancel_requested:
        return Refusal("cancel_pending", task)
    return TaskCancelRequested(**stamp(command, now))


def _cancelled_attempt(command: Ending, task: Task, now: datetime) -> TaskCancelled:
    ending = _ending(command, task, now) | {"reason": command.reason or task.cancel_reason}
    return TaskCancelled(digest=task.digest, **ending)


def _expire(command: Expire, task: Task, now: datetime) -> TaskEvent | Refusal:
    limit = passed_limit(task, now) if task.status in ("held", "queued", "waiting") else None
    return _expired(command, task, now, limit) if limit else Refusal("not_due", task)


def _expired(
    command: Command, task: Task, now: datetime, limit: Literal["start_within", "expires"]
) -> TaskExpired:
    return TaskExpired(
        attempts=task.attempts, limit=limit, digest=task.digest, **stamp(command, now)
    )


def _end(
    command: Complete | Fail | Return | Cancel, task: Task, now: datetime
) -> TaskEvent | Refusal:
    if task.lease is None or task.lease.fence != command.fence or task.spec is None:
        return Refusal("lease_lost", task)
    match command:
        case Complete():
            # Success counts even when someone has asked for the end meanwhile: the work is done.
            return TaskCompleted(
                result=command.result,
                result_ref=command.result_ref,
                fan_out=command.fan_out,
                digest=task.digest,
                **_ending(command, task, now),
            )
        case Cancel():
            return _cancelled_attempt(command, task, now)
        case Fail() | Return() if task.is_cancel_requested:
            return _cancelled_attempt(command, task, now)
        case Fail():
            return _fail(command, task, task.spec, now)
        case Return():
            return _return(command, task, now)
        case _:
            assert_never(command)


def _fail(command: Fail, task: Task, spec: TaskSpec, now: datetime) -> TaskEvent:
    failures = task.failures + 1
    if (
        command.is_permanent
        or failures >= spec.max_attempts
        or passed_limit(task, now) == "expires"
    ):
        return TaskFailed(
            error_class=command.error_class,
            error=command.error,
            digest=task.digest,
            **_ending(command, task, now),
        )
    if command.delay_ms is None:
        delay_ms = backoff_ms(spec.backoff, failures, command.jitter)
    else:
        delay_ms = _allowed_delay_ms(command.delay_ms)
    return TaskRetried(
        error_class=command.error_class,
        error=command.error,
        delay_ms=delay_ms,
        **_ending(command, task, now),
    )


def _return(command: Return, task: Task, now: datetime) -> TaskEvent:
    if command.question is not None and len(task.answers) >= ANSWERS_MAX:
        return TaskFailed(
            error_class=command.error_class,
            error=f"asked {ANSWERS_MAX} questions, and now: {command.error}",
            digest=task.digest,
            **_ending(command, task, now),
        )
    if command.error_class == "lost" and task.losses + 1 >= LOSSES_MAX:
        return TaskFailed(
            error_class=command.error_class,
            error=command.error,
            digest=task.digest,
            **_ending(command, task, now),
        )
    return TaskReturned(
        error_class=command.error_class,
        error=command.error,
        delay_ms=_allowed_delay_ms(command.delay_ms),
        question=command.question,
        **_ending(command, task, now),
    )


def _allowed_delay_ms(wish_ms: int) -> int:
    return max(0, min(wish_ms, DURATION_MAX_MS))


def _ending(command: Ending, task: Task, now: datetime) -> dict[str, Any]:
    return {
        "attempts": task.attempts,
        "fence": command.fence,
        "ran_ms": command.ran_ms,
        "exit_code": command.exit_code,
        "usage": command.usage,
        "artifacts": command.artifacts,
        "session_id": command.session_id,
        "worktree": command.worktree,
        "allowances": command.allowances,
        **stamp(command, now),
    }


def _lost_message(lease: Lease) -> str:
    return (
        f"went down with its agent {LOSSES_MAX} times, last with {lease.agent_id} on {lease.host};"
        " it may be what ends them"
    )


def _expired_message(lease: Lease) -> str:
    return (
        f"its overall time passed while it ran under {lease.agent_id} on {lease.host}, which then went away;"
        " submit it again with a longer --expires"
    )
