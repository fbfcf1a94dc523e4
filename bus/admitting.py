"""Lets tasks in, as `bus/core/admission.py` says: their offers and the limits' own events, all or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from fleetlog.bus.core import Queue, Refusal, Task, decide
from fleetlog.bus.core.admission import Admission
from fleetlog.bus.core.admission_acts import AdmissionAct, Admit, Exhaust
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.core.limits import Limit
from fleetlog.bus.errors import ConflictError, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import Append, entry
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.events import BudgetExhausted, LimitAdmitted, TaskQueued
from fleetlog.schemas.subjects import Subject

logger = logging.getLogger("fleetlog.coordinator")

AGAIN_S: Final = 1.0
BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
"""More would keep every other append waiting."""


class Admitter:
    """Carries out the acts of `Admission`.

    Args:
        fleet: whose log.
        admission: the fold.
        read_to: waits until the fold has taken the event with this sequence.
        changed: called when an act could not be done, as more may be owed although the fold has taken nothing.
        placed: says of a command that queues a task where that is to be offered.
    """

    def __init__(
        self,
        fleet: Fleet,
        admission: Admission,
        read_to: Callable[[int], Awaitable[None]],
        changed: Callable[[], None],
        placed: Callable[[Task, AnyCommand], AnyCommand],
    ) -> None:
        self._fleet = fleet
        self._admission = admission
        self._read_to = read_to
        self._changed = changed
        self._placed = placed

    async def do(self, act: AdmissionAct) -> None:
        """Does it; what can't be done for now comes again."""
        try:
            if isinstance(act, Exhaust):
                await self._exhaust(act)
            else:
                await self._admit(act)
        except ConflictError:
            # What was first is decided upon before it comes again.
            await self._read_on()
            self._put_back(act)
        except TransportError as error:
            await self._wait_after(error)
            self._put_back(act)

    async def _wait_after(self, error: TransportError) -> None:
        # A server that refuses, for want of room perhaps, answers at once, again and again.
        logger.warning("tasks have to wait to be let in: %s", error)
        await self._fleet.system.clock.sleep(AGAIN_S)

    async def _read_on(self) -> None:
        while True:
            try:
                return await self._read_to(await self._fleet.log.end())
            except TransportError:
                await self._fleet.system.clock.sleep(AGAIN_S)

    def _put_back(self, act: AdmissionAct) -> None:
        self._admission.put_back(act)
        self._changed()

    async def _exhaust(self, act: Exhaust) -> None:
        state = act.state
        resource = state.exhausted
        assert state.budget is not None
        assert resource is not None
        event = BudgetExhausted(
            id=f"{state.id}-{state.version}-exhausted",
            occurred_at=self._fleet.log.now(),
            key=state.key,
            resource=resource,
            action=state.budget.action,
            spent=state.spent,
        )
        subject = Subject(self._fleet.name, "budget", state.id, "exhausted")
        await self._fleet.log.append(entry(subject, state.version, event))
        logger.warning("budget %s is used up (%s): %s", state.key, resource, state.budget.action)

    async def _admit(self, act: Admit) -> None:
        offers, left = await self._offers(act.tasks)
        if not offers:
            # A clock that was set back, perhaps: it is decided anew.
            await self._fleet.system.clock.sleep(AGAIN_S)
            self._put_back(act)
            return
        if left:
            self._put_back(Admit((), left))
        if act.limits:
            admitted = [self._admitted(limit, offers) for limit in act.limits]
            # The limits last: whoever has folded a limit's new version has folded all that it lets in.
            await self._fleet.log.append_together([*(each for _, each in offers), *admitted])
        else:
            await self._offer_each(offers)

    async def _offer_each(self, offers: list[tuple[Task, Append]]) -> None:
        appended = [self._fleet.log.append(each) for _, each in offers]
        answers = await asyncio.gather(*appended, return_exceptions=True)
        late: list[Task] = []
        error: BaseException | None = None
        for (task, _), answer in zip(offers, answers, strict=True):
            if isinstance(answer, BaseException):
                late.append(task)
                error = error if isinstance(answer, ConflictError) else answer
        if not late:
            return
        if error is not None:
            if not isinstance(error, TransportError):
                raise error
            await self._wait_after(error)
        # Cancelled, perhaps; or the server refused them. What has not settled gets into line again.
        await self._read_on()
        self._put_back(Admit((), tuple(late)))

    def _admitted(self, limit: Limit, offers: list[tuple[Task, Append]]) -> Append:
        names = tuple(task.id for task, _ in offers)
        event = LimitAdmitted(
            # Of this batch alone: another coordinator may let others in beside the same first task.
            id=self._fleet.system.new_id(),
            occurred_at=self._fleet.log.now(),
            key=limit.key,
            tasks=names,
        )
        subject = Subject(self._fleet.name, "limit", limit.id, "admitted")
        return entry(subject, limit.version, event)

    async def _offers(
        self, tasks: tuple[Task, ...]
    ) -> tuple[list[tuple[Task, Append]], tuple[Task, ...]]:
        """The tasks' `queued`, as many as one batch should hold, and the tasks that are left."""
        offers: list[tuple[Task, Append]] = []
        later: list[Task] = []
        size = 0
        for position, task in enumerate(tasks):
            command = Queue(id=f"{task.id}-{task.version}-admit", is_open=True, is_admitted=True)
            event = decide(self._placed(task, command), task, self._fleet.log.now())
            if isinstance(event, Refusal):
                later.append(task)
                continue
            if not isinstance(event, TaskQueued):
                continue  # someone has asked for its end, and that comes by another way
            await self._fleet.derived.ensure_for(event)
            append = entry(subject_of(self._fleet.name, task, event), task.version, event)
            size += len(append.data)
            if offers and size > BATCH_BYTES_MAX:
                return offers, (*later, *tasks[position:])
            offers.append((task, append))
        return offers, tuple(later)
