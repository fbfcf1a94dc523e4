"""Asking for the ends of tasks, and waiting until they have come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from fleetlog.bus.core import Refusal, RequestCancel
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.outcomes import Outcome, as_error, outcome_of
from fleetlog.bus.rules import Decided, execute, load_task
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import TerminalEvent
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import tasks


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
    decided = await execute(fleet.log, command, await load_task(fleet.log, task_id))
    if isinstance(decided, Decided):
        lease = decided.task.lease
        fleet.hints.publish(task_id, decided.seq, to=lease.agent_id if lease else None)
        if isinstance(decided.event, TerminalEvent):
            return Asked(outcome=outcome_of(task_id, decided.event))
        return Asked()
    return _refused(decided)


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
