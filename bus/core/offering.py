"""How a task comes to be offered: submitted, queued, held, answered, or given up before it ran."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fleetlog.bus.core.commands import (
    Command,
    GiveAnswer,
    GiveUp,
    Hold,
    OfferAgain,
    Queue,
    Submit,
)
from fleetlog.bus.core.refusal import Refusal, stamp
from fleetlog.bus.core.task import Task
from fleetlog.schemas.events import TaskCancelled, TaskEvent, TaskFailed, TaskHeld, TaskQueued
from fleetlog.schemas.questions import Answer
from fleetlog.schemas.specs import TaskSpec


def submit(command: Submit, task: Task, now: datetime) -> TaskEvent | Refusal:
    """See `Submit`."""
    if task.status == "absent" and task.version == 0:
        return _first(command, task, now)
    if task.status == "absent":
        return Refusal("unreadable", task)
    if command.on_duplicate == "refuse":
        return Refusal("exists", task)
    if command.on_duplicate == "replace" and _is_replaceable(task, command.spec):
        return _first(command, task, now)
    is_same = task.digest is None or task.digest == command.digest
    return Refusal("duplicate" if is_same else "key_taken", task)


def _first(command: Submit, task: Task, now: datetime) -> TaskEvent:
    spec, digest = command.spec, command.digest
    if spec.delay_ms or spec.waits_for_tasks or spec.needs_admission or spec.affinity:
        return TaskHeld(spec=spec, digest=digest, **stamp(command, now))
    submitted_at = task.submitted_at
    return TaskQueued(spec=spec, digest=digest, submitted_at=submitted_at, **stamp(command, now))


def _is_replaceable(task: Task, spec: TaskSpec) -> bool:
    """It has not started, and it stands alone: no other task waits for it, none is counted with it."""
    if task.status not in ("held", "queued") or task.attempts or task.spec is None:
        return False
    return not any(
        each.waits_for_tasks or each.barrier_id is not None or each.budget is not None
        for each in (task.spec, spec)
    )


def queue(command: Queue, task: Task, now: datetime) -> TaskEvent | Refusal:
    """See `Queue`."""
    if task.moves_at is not None and task.moves_at <= now:
        return _queued(command, task, now)
    if task.due_at is None or task.due_at > now or task.spec is None or task.digest is None:
        return Refusal("not_due", task)
    if task.waits_for_tasks and not command.is_open:
        return Refusal("not_due", task)
    if task.spec.needs_admission and not command.is_admitted:
        return Refusal("not_due", task)
    if task.is_cancel_requested:
        return cancelled(command, task, now)
    return _queued(command, task, now)


def _queued(
    command: Queue | GiveAnswer | OfferAgain,
    task: Task,
    now: datetime,
    answers: tuple[Answer, ...] | None = None,
) -> TaskQueued:
    assert task.spec is not None
    assert task.digest is not None
    session_id = command.session_id if isinstance(command, Queue) else None
    return TaskQueued(
        spec=task.spec,
        digest=task.digest,
        attempt=task.attempts + 1,
        failures=task.failures,
        losses=task.losses,
        submitted_at=task.submitted_at,
        session_id=task.session_id or session_id,
        host=command.host,
        answers=task.answers if answers is None else answers,
        **stamp(command, now),
    )


def offer_again(command: OfferAgain, task: Task, now: datetime) -> TaskEvent | Refusal:
    """See `OfferAgain`."""
    if task.status != "queued" or task.offer != command.offer:
        return Refusal("stale_offer", task)
    return _queued(command, task, now)


def hold(command: Hold, task: Task, now: datetime) -> TaskEvent | Refusal:
    """See `Hold`."""
    if task.status != "queued" or task.spec is None or task.digest is None:
        return Refusal("not_due", task)
    return _held(command, task, now, task.answers)


def _held(
    command: Hold | GiveAnswer, task: Task, now: datetime, answers: tuple[Answer, ...]
) -> TaskHeld:
    """What has been offered before is held, until it is let in."""
    assert task.spec is not None
    assert task.digest is not None
    # Its delay is over: this `held` is not its first.
    spec = msgspec.structs.replace(task.spec, delay_ms=0)
    return TaskHeld(spec=spec, digest=task.digest, answers=answers, **stamp(command, now))


def answer(command: GiveAnswer, task: Task, now: datetime) -> TaskEvent | Refusal:
    """See `GiveAnswer`."""
    if task.is_settled:
        return Refusal("already_settled", task)
    if task.question is None or task.asked != command.asked or task.is_cancel_requested:
        return Refusal("not_asked", task)
    if task.question.choices and command.answer not in task.question.choices:
        return Refusal("not_a_choice", task)
    answer = Answer(question=task.question.text, answer=command.answer, actor=command.actor, at=now)
    answers = (*task.answers, answer)
    if task.spec is not None and task.spec.needs_admission:
        return _held(command, task, now, answers)
    return _queued(command, task, now, answers)


def give_up(command: GiveUp, task: Task, now: datetime) -> TaskEvent | Refusal:
    """See `GiveUp`."""
    if not task.waits_for_tasks:
        return Refusal("not_due", task)
    return TaskFailed(
        attempts=task.attempts,
        error_class="dependency",
        error=command.error,
        digest=task.digest,
        **stamp(command, now),
    )


def cancelled(
    command: Command, task: Task, now: datetime, fence: int | None = None
) -> TaskCancelled:
    """The end of a task that someone asked for and that nothing runs of."""
    fields = stamp(command, now) | {"reason": command.reason or task.cancel_reason}
    return TaskCancelled(attempts=task.attempts, fence=fence, digest=task.digest, **fields)
