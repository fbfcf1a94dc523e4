"""Answering what a task asks: the answer is its next offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fleetlog.bus.core import Refusal, Task
from fleetlog.bus.core.commands import GiveAnswer
from fleetlog.bus.errors import Refused, TaskNotFound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.outcomes import as_error
from fleetlog.bus.rules import execute, fold
from fleetlog.schemas.envelope import Stored, decode
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import TaskClaimed
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.questions import ANSWER_MAX_BYTES, Answer, Question, answer_text
from fleetlog.schemas.specs import read_json
from fleetlog.schemas.subjects import guard


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that the log has."""

    task_id: str
    """Whose question it was."""
    seq: int
    """The event that offers the task again."""
    question: str
    """What was asked."""


async def answer_task(
    fleet: Fleet, task_id: str, value: Any, *, actor: str | None = None
) -> Answered:
    """Answers what the task asks at the time of the call, and offers it again.

    Guarded on the task: of two answers to one question one is recorded, and the other is told whose it was.

    Args:
        fleet: where.
        task_id: who asks.
        value: a JSON value of at most `ANSWER_MAX_BYTES`, mostly a text; where there are choices, one of them.
        actor: who answers.

    Raises:
        InvalidInput: the value is none of the choices, too large or no JSON.
        TaskNotFound: there is no such task.
        Refused: it asks nothing, or someone else was faster.
    """
    check_id(task_id, "task id")
    _check_value(value)
    events = await fleet.log.read_thing(guard(fleet.name, "task", task_id))
    task = fold(task_id, events)
    if task.status == "absent" and not task.version:
        raise TaskNotFound(
            f"there is no task {task_id}; `fleetlog task list --needs-input` shows what waits for an answer"
        )
    if (asked := task.question) is None:
        raise _not_asked(task)
    host = _host_of(task, events)
    command = GiveAnswer(
        id=fleet.system.new_id(), asked=task.asked, answer=value, actor=actor, host=host
    )
    if host is not None and task.spec is not None:
        await fleet.derived.ensure((task.spec.on_host(host),))
    decided = await execute(fleet.log, command, task)
    if not isinstance(decided, Refusal):
        return Answered(task_id=task_id, seq=decided.seq, question=asked.text)
    if decided.code == "not_a_choice":
        raise InvalidInput(
            f"the answer to {asked.text!r} is one of {', '.join(asked.choices)}; nothing was changed"
        )
    raise _too_late(decided, asked, before=len(task.answers))


def _host_of(task: Task, events: Sequence[Stored]) -> str | None:
    """Where a task with an affinity asked; whether an agent is there still, its coordinator will see."""
    if task.spec is None or task.spec.affinity is None:
        return None
    claims = (event for each in events if isinstance(event := decode(each.data), TaskClaimed))
    return max(claims, key=lambda claim: claim.attempt).host


def _check_value(value: Any) -> None:
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the answer cannot be written as JSON: {error}") from error
    if len(data) > ANSWER_MAX_BYTES:
        raise InvalidInput(
            f"the answer has {len(data)} bytes, at most {ANSWER_MAX_BYTES} are allowed:"
            " write it to a file or a store, and answer with its name"
        )
    read_json(data, "answer")


def _too_late(refusal: Refusal, asked: Question, *, before: int) -> Refused:
    task = refusal.task
    given = task.answers[before:]
    if given and given[0].question == asked.text:
        return Refused(f"task {task.id} was answered {_by(given[0])}; your answer changed nothing")
    if refusal.code == "not_asked":
        return _not_asked(task)
    return as_error(refusal)


def _not_asked(task: Task) -> Refused:
    said = f"task {task.id} asks nothing: it is {task.status}"
    if task.answers:
        said += f"; the last question was answered {_by(task.answers[-1])}"
    return Refused(f"{said}. `fleetlog task list --needs-input` shows what waits for an answer")


def _by(answer: Answer) -> str:
    who = f" by {answer.actor}" if answer.actor is not None else ""
    return f"{answer_text(answer)!r}{who} at {answer.at:%Y-%m-%d %H:%M:%S} UTC"
