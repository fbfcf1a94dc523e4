"""What became of a task, and of a command that was refused, for the client's callers."""

from __future__ import annotations

from typing import Any

import msgspec

from fleetlog.bus.core import Refusal, Task, evolve, permits
from fleetlog.bus.errors import AlreadySettled, KeyTaken, Refused, TaskNotFound
from fleetlog.bus.objects import Objects
from fleetlog.schemas.envelope import Recorded, UnknownEvent
from fleetlog.schemas.events import (
    AnyEvent,
    AttemptEnd,
    BarrierAbandoned,
    BarrierReleased,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TerminalEvent,
    verb_of,
)
from fleetlog.schemas.objects import Artifact, ObjectRef


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended."""

    task_id: str
    """Whose outcome."""
    state: str
    """`completed`, `failed`, `cancelled` or `expired`."""
    result: Any = None
    """The JSON value that a completed task gave."""
    error: str | None = None
    """Why it did not complete."""
    error_class: str | None = None
    """The kind of error."""
    attempts: int = 0
    """How many claims it took."""
    result_ref: ObjectRef | None = None
    """Where the result is stored when it was too large for the event; the client fetches it into `result`."""

    @property
    def is_completed(self) -> bool:
        """Whether it succeeded."""
        return self.state == "completed"


class LeftArtifact(msgspec.Struct, frozen=True):
    """A file that an attempt left behind."""

    attempt: int
    """Which attempt."""
    artifact: Artifact
    """What it is called, and where its bytes are."""


class History(msgspec.Struct, frozen=True):
    """A task and every event of it that the log holds."""

    task: Task
    """Its present state."""
    events: tuple[Recorded, ...]
    """In log order."""

    @property
    def artifacts(self) -> tuple[LeftArtifact, ...]:
        """What the attempts that have ended left behind, the oldest first."""
        left: list[LeftArtifact] = []
        task = Task(id=self.task.id)
        for record in self.events:
            event = record.event
            if isinstance(event, AttemptEnd) and event.artifacts and permits(task, event):
                left += (LeftArtifact(event.attempts, each) for each in event.artifacts)
            task = evolve(task, record)
        return tuple(left)


def outcome_of(task_id: str, event: TerminalEvent) -> Outcome:
    """What a terminal event says; a stored result is not in it but where it is."""
    result: Any = None
    result_ref = error = error_class = None
    match event:
        case TaskCompleted():
            result, result_ref = msgspec.json.decode(event.result), event.result_ref
        case TaskFailed():
            error, error_class = event.error, event.error_class
        case TaskExpired():
            limit = event.limit.replace("_", " ")
            error = (
                f"its time ran out before it could run ({limit}): give it longer, or see with"
                " `fleetlog doctor` what it waited for"
            )
            error_class = "expired"
        case _:
            error, error_class = event.reason or "cancelled", "cancelled"
    return Outcome(
        task_id=task_id,
        state=verb_of(event),
        result=result,
        error=error,
        error_class=error_class,
        attempts=event.attempts,
        result_ref=result_ref,
    )


def barrier_outcome(barrier_id: str, event: AnyEvent | UnknownEvent | None) -> Outcome | None:
    """How a barrier has ended, by its last event; None while it has not."""
    if isinstance(event, BarrierReleased):
        return Outcome(task_id=barrier_id, state="completed")
    if isinstance(event, BarrierAbandoned):
        state = "failed" if event.why == "policy" else "cancelled"
        error_class = "dependency" if event.why == "policy" else "cancelled"
        return Outcome(task_id=barrier_id, state=state, error=event.error, error_class=error_class)
    return None


async def with_result(outcome: Outcome, objects: Objects) -> Outcome:
    """The outcome with its result, wherever that is.

    Raises:
        ObjectLost: the stored result is missing or damaged.
        TransportError: the store does not answer.
    """
    if outcome.result_ref is None:
        return outcome
    result = msgspec.json.decode(await objects.get(outcome.result_ref))
    return msgspec.structs.replace(outcome, result=result)


def as_error(refusal: Refusal) -> Refused:
    """The exception for a refusal, with what to do next."""
    task = refusal.task
    match refusal.code:
        case "not_found":
            return TaskNotFound(
                f"there is no task {task.id}; `fleetlog task list` shows what there is"
            )
        case "key_taken":
            return KeyTaken(
                f"task {task.id} exists with another payload: use another key for other work,"
                f" or see `fleetlog task show {task.id}`"
            )
        case "exists":
            return KeyTaken(
                f"task {task.id} is there already, {task.status}: see `fleetlog task show {task.id}`"
            )
        case "already_settled":
            return AlreadySettled(f"task {task.id} is {task.status} already; nothing was changed")
        case "unreadable":
            return Refused(
                f"task {task.id} has events that this version can't read, see `fleetlog task show {task.id}`:"
                " upgrade fleetlog if a newer one wrote them, else use another id"
            )
        case _:
            return Refused(f"task {task.id} is {task.status}: {refusal.code.replace('_', ' ')}")
