"""One runner for all commands: fold, decide, append at the version, and again after a conflict."""

from __future__ import annotations

import msgspec

from fleetlog.bus.core import Refusal, Task, decide, evolve
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.errors import ConflictError, TaskNotFound
from fleetlog.bus.log import EventLog, entry
from fleetlog.schemas.envelope import Recorded, Stored, open_stored
from fleetlog.schemas.events import TaskEvent, TaskHeld, TaskQueued, verb_of
from fleetlog.schemas.subjects import Subject, guard


class Decided(msgspec.Struct, frozen=True):
    """A command that led to an event."""

    seq: int
    """Where it stands in the log."""
    event: TaskEvent
    """What was recorded."""
    task: Task
    """The state it was decided in; `evolve` with the event gives the next one."""


async def load_task(log: EventLog, task_id: str) -> Task:
    """The task as the log tells it now; `absent` when there is none."""
    return fold(task_id, await log.read_thing(guard(log.fleet, "task", task_id)))


def fold(task_id: str, events: list[Stored]) -> Task:
    """The task after `events`."""
    task = Task(id=task_id)
    for stored in events:
        task = evolve(task, open_stored(stored))
    return task


async def execute(log: EventLog, command: AnyCommand, task: Task) -> Decided | Refusal:
    """Appends what the command leads to, or says why there is nothing to append.

    Args:
        log: the fleet's log.
        command: what is wanted.
        task: its state as known; when that proves old, the task is folded anew and decided again. A conflict
            alone refuses nothing.
    """
    while True:
        event = decide(command, task, log.now())
        if isinstance(event, Refusal):
            return event
        try:
            seq = await log.append(entry(subject_of(log.fleet, task, event), task.version, event))
        except ConflictError:
            task = await load_task(log, task.id)
            continue
        return Decided(seq, event, task)


def subject_of(fleet: str, task: Task, event: TaskEvent) -> Subject:
    """Where an event of a task goes: the queue on which it is offered, and the priority of its spec."""
    match event:
        case TaskQueued():
            spec = event.spec.on_host(event.host)
        case TaskHeld():
            spec = event.spec
        case _ if task.spec is not None:
            spec = task.spec
        case _:
            raise TaskNotFound(f"task {task.id} has no history in this log that could be continued")
    return Subject(fleet, "task", task.id, verb_of(event), spec.offered_on, spec.priority)


def after(decided: Decided, log: EventLog) -> Task:
    """The state after a decided command, with this process's idea of the log's time for the event."""
    record = Recorded(decided.seq, log.now(), None, decided.event)
    return evolve(decided.task, record)
