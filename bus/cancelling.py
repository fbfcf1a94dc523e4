"""Asking for the ends of tasks, and waiting until they have come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from fleetlog.bus.core import Refusal, RequestCancel
from fleetlog.bus.errors import ConflictError, TaskNotFound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import entry
from fleetlog.bus.outcomes import Outcome, as_error, outcome_of
from fleetlog.bus.rules import Decided, execute, load_task
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierOpened,
    TaskCompleted,
    TerminalEvent,
    verb_of,
)
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import Subject, guard, tasks


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the wish that a task ends."""

    outcome: Outcome | None = None
    """It has ended; None: its agent was asked to end it, now or before."""
    is_late: bool = False
    """It had its outcome already; nothing was written."""


async def cancel_task(
    fleet: Fleet, task_id: str, *, reason: str | None = None, actor: str | None = None
) -> Asked:
    """Ends the task: at once when it does not run, else its agent ends it and then it is cancelled.

    The log's guard decides, whatever the caller knew of the task. Asking again for the end of a task that is
    ending does nothing.

    Raises:
        TaskNotFound: there is no such task.
    """
    check_id(task_id, "task id")
    command = RequestCancel(id=fleet.system.new_id(), reason=reason, actor=actor)
    task = await load_task(fleet.log, task_id)
    if isinstance(task.outcome, TaskCompleted) and (fan_out := task.outcome.fan_out) is not None:
        # What it led to is still it: first its members, then its continuation.
        if await abandon(fleet, task_id, reason=reason, actor=actor):
            return Asked()
        if fan_out.then is not None:
            return await cancel_task(fleet, fan_out.then.task_id, reason=reason, actor=actor)
    decided = await execute(fleet.log, command, task)
    if isinstance(decided, Decided):
        lease = decided.task.lease
        fleet.hints.publish(task_id, decided.seq, to=lease.agent_id if lease else None)
        if isinstance(decided.event, TerminalEvent):
            return Asked(outcome=outcome_of(task_id, decided.event))
        return Asked()
    return _refused(decided)


async def abandon(
    fleet: Fleet, barrier_id: str, *, reason: str | None = None, actor: str | None = None
) -> bool:
    """Ends a barrier that is open: its members' cancels follow. Answers False if it has ended already.

    Raises:
        TaskNotFound: there is no such barrier.
    """
    check_id(barrier_id, "barrier id")
    command_id = fleet.system.new_id()
    while True:
        last = await fleet.log.last(guard(fleet.name, "barrier", barrier_id))
        if last is None and not await _has_fanned_out(fleet, barrier_id):
            raise TaskNotFound(
                f"there is no barrier {barrier_id}; `fleetlog barrier list` shows what there is"
            )
        if last is not None and not isinstance(open_stored(last).event, BarrierOpened):
            return False
        event = BarrierAbandoned(
            id=command_id,
            occurred_at=fleet.log.now(),
            why="cancelled",
            error=reason or "it was cancelled",
            reason=reason,
            actor=actor,
        )
        subject = Subject(fleet.name, "barrier", barrier_id, verb_of(event))
        try:
            seq = await fleet.log.append(entry(subject, last.seq if last is not None else 0, event))
        except ConflictError:
            continue
        fleet.hints.publish(barrier_id, seq)
        return True


async def _has_fanned_out(fleet: Fleet, task_id: str) -> bool:
    outcome = (await load_task(fleet.log, task_id)).outcome
    return isinstance(outcome, TaskCompleted) and outcome.fan_out is not None


def _refused(refusal: Refusal) -> Asked:
    if refusal.code == "cancel_pending":
        return Asked()
    if refusal.code == "already_settled" and refusal.task.outcome is not None:
        outcome = outcome_of(refusal.task.id, refusal.task.outcome)
        return Asked(outcome=outcome, is_late=True)
    raise as_error(refusal)


class Ends:
    """The outcomes of a set of tasks, by one follow of the log instead of a wait for each."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()
        self.outcomes: dict[str, Outcome] = {}
        """By task, of those that have settled."""

    def expect(self, task_ids: Iterable[str]) -> None:
        """Belongs before the wish is sent, so that no end is missed."""
        self._wanted.update(task_ids)

    async def follow(self, *, after: int) -> None:
        """Takes outcomes from the log behind `after`; for ever."""
        subjects = tasks(self._fleet.name)
        async for page in self._fleet.log.follow(after=after, subjects=subjects):
            for stored in page:
                task_id = stored.subject.split(".")[3]
                if task_id not in self._wanted:
                    continue
                event = open_stored(stored).event
                if isinstance(event, TerminalEvent):
                    self.outcomes.setdefault(task_id, outcome_of(task_id, event))
            self._changed.set()

    async def wait(self, task_ids: Iterable[str]) -> None:
        """Waits until all of these have settled."""
        open_ids = set(task_ids)
        while open_ids := {each for each in open_ids if each not in self.outcomes}:
            self._changed.clear()
            await self._changed.wait()
