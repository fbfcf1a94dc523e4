"""The coordinator: does what time brings. Waiting and delayed tasks are queued, late ones expire.

It folds the log, holds what is not settled, and acts through guarded appends with derived ids: two coordinators
at once are harmless, none at all only delays.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec

from fleetlog.bus.background import background
from fleetlog.bus.core import Refusal, Task, decide, due, evolve, next_due_at, permits, resume
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.errors import ConflictError, TransportError, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import entry
from fleetlog.bus.rules import subject_of
from fleetlog.bus.services import Services
from fleetlog.schemas.envelope import Recorded, Stored, UnknownEvent, open_stored
from fleetlog.schemas.events import TerminalEvent

logger = logging.getLogger("fleetlog.coordinator")

ACTS_MAX: Final = 1000
"""Appends in one go."""
AGAIN_S: Final = 1.0
SERVICE: Final = "coordinator"
"""The name under which a coordinator says how it is."""


class CoordinatorState(msgspec.Struct, frozen=True):
    """What a coordinator says of itself."""

    is_ready: bool
    """It has read the log to the end that it found at its start."""
    tasks: int
    """How many are not settled."""
    violations: int
    """Events that their task's state did not allow."""


async def ask_coordinator(services: Services, timeout_s: float) -> CoordinatorState:
    """What a coordinator of the fleet says; if there are several, one of them.

    Raises:
        Unavailable: none answers.
    """
    async for chunk in services.request(SERVICE, b"", timeout_s=timeout_s):
        return msgspec.json.decode(chunk, type=CoordinatorState)
    raise Unavailable("the coordinator gave no answer: ask again")


class Coordinator:
    """One coordinator process."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tasks: dict[str, Task] = {}
        self._due: list[tuple[datetime, str, int]] = []
        self._owed: list[tuple[Task, AnyCommand]] = []
        self._wake = asyncio.Event()
        self.violation_count = 0
        """Events that their task's state did not allow."""
        self.ready = asyncio.Event()
        """Set once it has read the log to the end that it found at its start."""

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set."""
        async with (
            background(self._fold(), self._act()),
            self._fleet.services.serve(SERVICE, self._describe),
        ):
            await stop.wait()

    async def _describe(self, _request: bytes) -> AsyncIterator[bytes]:
        state = CoordinatorState(self.ready.is_set(), len(self._tasks), self.violation_count)
        yield msgspec.json.encode(state)

    async def _fold(self) -> None:
        end = await self._fleet.log.end()
        if end == 0:
            self._catch_up(0)
        async for page in self._fleet.log.follow():
            for stored in page:
                self._take(stored)
            if not self.ready.is_set() and page[-1].seq >= end:
                self._catch_up(page[-1].seq)
            self._wake.set()

    def _catch_up(self, seq: int) -> None:
        logger.info("the log is read up to %d: %d tasks are not settled", seq, len(self._tasks))
        self.ready.set()

    def _take(self, stored: Stored) -> None:
        record = open_stored(stored)
        if record.subject is None or record.subject.kind != "task":
            return
        task_id = record.subject.id
        before = self._tasks.get(task_id, Task(id=task_id))
        task = evolve(before, record)
        if task.is_settled or task.status == "absent":
            self._tasks.pop(task_id, None)
            self._count_violation(before, record)
            return
        self._tasks[task_id] = task
        self._count_violation(before, record)
        if (instant := next_due_at(task)) is not None:
            heapq.heappush(self._due, (instant, task_id, task.version))
        if (command := resume(task)) is not None:
            self._owed.append((task, command))

    def _count_violation(self, before: Task, record: Recorded) -> None:
        # A settled task is not held here: what comes after its end can't be told from a trimmed history's rest.
        if permits(before, record.event) or isinstance(record.event, TerminalEvent):
            return
        if isinstance(record.event, UnknownEvent):
            logger.warning(
                "event %d of task %s can't be read by this version, which leaves the task alone: upgrade it",
                *(record.seq, before.id),
            )
            return
        self.violation_count += 1
        logger.error("event %d is not allowed in the state of task %s", record.seq, before.id)

    async def _act(self) -> None:
        await self.ready.wait()
        while True:
            self._wake.clear()
            acts = self._take_acts()
            if acts:
                await asyncio.gather(*(self._try(task, command) for task, command in acts))
            else:
                await self._pause()

    def _take_acts(self) -> list[tuple[Task, AnyCommand]]:
        acts, self._owed = self._owed[:ACTS_MAX], self._owed[ACTS_MAX:]
        now = self._fleet.log.now()
        while self._due and self._due[0][0] <= now and len(acts) < ACTS_MAX:
            _, task_id, version = heapq.heappop(self._due)
            task = self._tasks.get(task_id)
            if task is None or task.version != version:
                continue
            if (command := due(task, now)) is not None:
                acts.append((task, command))
        return acts

    async def _try(self, task: Task, command: AnyCommand) -> None:
        event = decide(command, task, self._fleet.log.now())
        if isinstance(event, Refusal):
            return
        try:
            seq = await self._fleet.log.append(
                entry(subject_of(self._fleet.name, task, event), task.version, event)
            )
        except ConflictError:
            return  # the event that was first is on its way to the fold
        except TransportError as error:
            logger.warning("task %s has to wait: %s", task.id, error)
            await self._fleet.system.clock.sleep(AGAIN_S)
            self._owed.append((task, command))
            return
        if isinstance(event, TerminalEvent):
            self._fleet.hints.publish(task.id, seq)

    async def _pause(self) -> None:
        """Until something is folded, or the first instant comes."""
        delay_s: float | None = None
        if self._due:
            delay_s = max(0.0, (self._due[0][0] - self._fleet.log.now()).total_seconds())
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            pass
