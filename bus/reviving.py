"""Reviving what has failed: the same work once more, as a new task."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from fleetlog.bus.core import Submit, Task
from fleetlog.bus.errors import Refused, TaskNotFound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.outcomes import as_error
from fleetlog.bus.rules import Decided, execute, fold
from fleetlog.schemas.envelope import Stored, decode
from fleetlog.schemas.events import TaskHeld, TaskQueued
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import guard

_REVIVED: Final = re.compile(r"(.+)-r([1-9][0-9]{0,8})")


class Revived(msgspec.Struct, frozen=True, kw_only=True):
    """A task that stands for a dead one."""

    dead_id: str
    """What had failed."""
    task_id: str
    """The new task."""
    seq: int
    """Its first event."""
    is_duplicate: bool
    """Someone revived it before; nothing was written."""


class _Found(msgspec.Struct, frozen=True):
    task: Task
    first_seq: int
    cause: str | None


async def revive(
    fleet: Fleet, task_id: str, *, reason: str | None = None, actor: str | None = None
) -> Revived:
    """Makes a new task of one that has failed: `<id>-r<n>`, with the dead one as its cause.

    It has the same spec, but no key, which stays with the dead one, and no delay. `n` counts up along a line:
    when a revived task has failed as well, its next revival is `<id>-r2`, whichever of the two is named. While
    the last of a line has not settled, it is the answer: any number of revivals at once make one task.

    Raises:
        TaskNotFound: there is no such task, or its history is trimmed.
        Refused: it has not failed, or it was revived and that has completed.
        LogFull: the log takes no new tasks.
    """
    check_id(task_id, "task id")
    named = await _find(fleet, task_id)
    if named is None:
        raise TaskNotFound(
            f"there is no task {task_id}; `fleetlog dead list` shows what has failed"
        )
    if named.task.status != "failed":
        raise Refused(
            f"task {task_id} is {named.task.status}, not failed: only what has failed can be revived"
        )
    root, number = _line_of(task_id, named)
    last = named
    while True:
        number += 1
        following = await _find(fleet, new_id := f"{root}-r{number}")
        if following is not None:
            # Someone may have given a task of their own such an id; it is passed over.
            last = following if following.cause is not None else last
            continue
        if last is not named and last.task.status == "completed":
            raise Refused(f"task {task_id} was revived as {last.task.id}, which has completed")
        if not last.task.is_settled:
            return Revived(
                dead_id=task_id, task_id=last.task.id, seq=last.first_seq, is_duplicate=True
            )
        revived = await _submit(fleet, last, check_id(new_id, "task id"), reason, actor)
        if revived is not None:
            return msgspec.structs.replace(revived, dead_id=task_id)


def _line_of(task_id: str, found: _Found) -> tuple[str, int]:
    """What the ids of a task's revivals begin with, and the task's own number; 0 for one that is none."""
    match = _REVIVED.fullmatch(task_id)
    if match is None or found.cause is None:
        return task_id, 0
    return match[1], int(match[2])


async def _find(fleet: Fleet, task_id: str) -> _Found | None:
    events = await fleet.log.read_thing(guard(fleet.name, "task", task_id))
    if not events:
        return None
    return _Found(fold(task_id, events), events[0].seq, _cause_of(events[0]))


def _cause_of(first: Stored) -> str | None:
    event = decode(first.data)
    return event.cause if isinstance(event, TaskHeld | TaskQueued) else None


async def _submit(
    fleet: Fleet, dead: _Found, new_id: str, reason: str | None, actor: str | None
) -> Revived | None:
    """The new task; None when the id was taken meanwhile, so that one has to look again."""
    spec, digest = dead.task.spec, dead.task.digest
    if spec is None or digest is None:
        raise TaskNotFound(
            f"task {dead.task.id} has no history in this log that could be continued: submit it anew"
        )
    spec = msgspec.structs.replace(spec, key=None, delay_ms=0)
    await fleet.room.check(spec)
    await fleet.derived.ensure((spec,))
    command = Submit(
        id=fleet.system.new_id(),
        spec=spec,
        digest=digest,
        cause=dead.task.id,
        reason=reason,
        actor=actor,
    )
    decided = await execute(fleet.log, command, Task(id=new_id))
    if isinstance(decided, Decided):
        return Revived(dead_id=dead.task.id, task_id=new_id, seq=decided.seq, is_duplicate=False)
    if decided.code in ("duplicate", "key_taken"):
        return await _taken(fleet, dead, new_id)
    raise as_error(decided)


async def _taken(fleet: Fleet, dead: _Found, new_id: str) -> Revived | None:
    found = await _find(fleet, new_id)
    if found is None or found.cause != dead.task.id:
        return None
    return Revived(dead_id=dead.task.id, task_id=new_id, seq=found.first_seq, is_duplicate=True)
