"""`evolve`: what an event makes of a task. Total: an event that does not fit changes the version alone."""

from __future__ import annotations

import msgspec

from fleetlog.bus.core.task import Lease, Task, instant_after
from fleetlog.schemas.envelope import Recorded, UnknownEvent
from fleetlog.schemas.events import (
    AnyEvent,
    TaskCancelled,
    TaskCancelRequested,
    TaskClaimed,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskHeld,
    TaskQueued,
    TaskRetried,
    TaskReturned,
    TerminalEvent,
)
from fleetlog.schemas.questions import Question


def evolve(task: Task, record: Recorded) -> Task:
    """The task after `record`; the first in log order wins, what is not allowed moves only the version.

    An event at or below the task's version has been seen already and changes nothing.
    """
    if record.seq <= task.version:
        return task
    event = record.event
    if not permits(task, event):
        return msgspec.structs.replace(task, version=record.seq)
    match event:
        case TaskHeld():
            return _held(task, record, event)
        case TaskQueued():
            return _queued(task, record, event)
        case TaskClaimed():
            return _claimed(task, record, event)
        case TaskRetried() | TaskReturned():
            return _waiting(task, record, event)
        case TaskCancelRequested():
            return msgspec.structs.replace(
                task, version=record.seq, is_cancel_requested=True, cancel_reason=event.reason
            )
        case TaskCompleted() | TaskFailed() | TaskCancelled() | TaskExpired():
            return _settled(task, record, event)
        case _:  # pragma: no cover - permits() lets only the events above pass
            raise AssertionError(event)


def permits(task: Task, event: AnyEvent | UnknownEvent) -> bool:
    """Whether the task's state allows the event; what it does not allow is counted as a violation."""
    match event:
        case TaskHeld():
            return task.status in ("absent", "held", "queued", "waiting")
        case TaskQueued():
            return task.status in ("absent", "held", "queued", "waiting")
        case TaskClaimed():
            if task.status == "queued":
                return event.offer == task.offer and event.over is None
            return (
                task.lease is not None
                and event.offer == task.lease.offer
                and event.over == task.lease.fence
            )
        case TaskRetried() | TaskReturned() | TaskCompleted():
            return _ends_lease(task, event.fence) or _is_trimmed(task, event)
        case TaskFailed() | TaskCancelled():
            return (
                _ends_lease(task, event.fence)
                or _ends_unclaimed(task, event.fence)
                or _is_trimmed(task, event)
            )
        case TaskExpired():
            return _ends_unclaimed(task, event.fence) or _is_trimmed(task, event)
        case TaskCancelRequested():
            return task.status == "claimed" and not task.is_cancel_requested
        case _:
            return False


def _ends_lease(task: Task, fence: int | None) -> bool:
    return task.lease is not None and task.lease.fence == fence


def _ends_unclaimed(task: Task, fence: int | None) -> bool:
    # A fence would be that of an attempt that is over: a stale worker speaks.
    return fence is None and task.status in ("held", "queued", "waiting")


def _is_trimmed(task: Task, event: AnyEvent) -> bool:
    # Of a settled task the terminal event may be all that is left in the log, or all that can be understood
    # (trimming goes verb by verb, so that a claim may outlive its offer). Its id stays taken.
    return task.status == "absent" and isinstance(event, TerminalEvent)


def _held(task: Task, record: Recorded, event: TaskHeld) -> Task:
    return msgspec.structs.replace(
        task,
        status="held",
        version=record.seq,
        spec=event.spec,
        digest=event.digest,
        submitted_at=task.submitted_at or record.stored_at,
        since=record.stored_at,
        due_at=instant_after(record.stored_at, event.spec.delay_ms),
        question=None,
        asked=0,
        answers=event.answers,
    )


def _queued(task: Task, record: Recorded, event: TaskQueued) -> Task:
    # A `queued` event is self-contained, so a fold may begin with it: the counts come from the event then.
    is_first = task.status == "absent"
    return msgspec.structs.replace(
        task,
        status="queued",
        version=record.seq,
        spec=event.spec,
        digest=event.digest,
        submitted_at=task.submitted_at or event.submitted_at or record.stored_at,
        offer=record.seq,
        host=event.host,
        since=record.stored_at,
        due_at=None,
        question=None,
        asked=0,
        answers=event.answers,
        attempts=event.attempt - 1 if is_first else task.attempts,
        failures=event.failures if is_first else task.failures,
        losses=event.losses if is_first else task.losses,
        session_id=event.session_id or task.session_id,
    )


def _claimed(task: Task, record: Recorded, event: TaskClaimed) -> Task:
    return msgspec.structs.replace(
        task,
        status="claimed",
        version=record.seq,
        since=record.stored_at,
        attempts=task.attempts + 1,
        losses=task.losses + (event.over is not None),
        lease=Lease(
            fence=record.seq,
            offer=event.offer,
            attempt=task.attempts + 1,
            agent_id=event.agent_id,
            worker_id=event.worker_id,
            host=event.host,
            claimed_at=record.stored_at,
            ack=event.ack,
        ),
    )


def _waiting(task: Task, record: Recorded, event: TaskRetried | TaskReturned) -> Task:
    question = _question(event)
    return msgspec.structs.replace(
        task,
        status="waiting",
        version=record.seq,
        since=record.stored_at,
        lease=None,
        failures=task.failures + isinstance(event, TaskRetried),
        losses=task.losses + (isinstance(event, TaskReturned) and event.error_class == "lost"),
        due_at=None if question else instant_after(record.stored_at, event.delay_ms),
        session_id=event.session_id or task.session_id,
        question=question,
        asked=record.seq if question else 0,
    )


def _question(event: TaskRetried | TaskReturned) -> Question | None:
    if isinstance(event, TaskReturned) and event.error_class == "needs_input":
        return event.question or Question(text=event.error)
    return None


def _settled(task: Task, record: Recorded, event: TerminalEvent) -> Task:
    status = {
        TaskCompleted: "completed",
        TaskFailed: "failed",
        TaskCancelled: "cancelled",
        TaskExpired: "expired",
    }[type(event)]
    is_failed_attempt = isinstance(event, TaskFailed) and event.fence is not None
    is_loss = isinstance(event, TaskFailed) and is_failed_attempt and event.error_class == "lost"
    return msgspec.structs.replace(
        task,
        status=status,
        version=record.seq,
        since=record.stored_at,
        due_at=None,
        question=None,
        asked=0,
        lease=None,
        attempts=max(task.attempts, event.attempts),
        failures=task.failures + (is_failed_attempt and not is_loss),
        losses=task.losses + is_loss,
        digest=task.digest or event.digest,
        outcome=event,
    )
