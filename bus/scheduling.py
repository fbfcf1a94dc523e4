"""Makes the tasks of schedules; the rules are `bus/core/schedule.py`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import msgspec

from fleetlog.bus.core import Refusal, Submit, Task, decide
from fleetlog.bus.core.schedule import Schedule, is_skipped, task_id_of
from fleetlog.bus.core.schedules import Owed, Schedules
from fleetlog.bus.errors import ConflictError, LogFull, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import Append, entry
from fleetlog.bus.rules import subject_of

logger = logging.getLogger("fleetlog.coordinator")

SCHEDULES_MAX: Final = 1000
"""So many are dealt with in one go."""
LOOK: Final = timedelta(seconds=10)
"""The longest wait between two looks at the clock: a laptop's timers stand still under its lid."""
AGAIN_S: Final = 1.0
FULL_AGAIN_S: Final = 10.0
"""Room is not made within a second, and nothing else is to do meanwhile: the log is one for all schedules."""


class Scheduler:
    """Carries out what `Schedules` owes.

    Args:
        fleet: whose log.
        schedules: the fold.
        read_to: waits until the fold has taken the event with this sequence.
    """

    def __init__(
        self, fleet: Fleet, schedules: Schedules, read_to: Callable[[int], Awaitable[None]]
    ) -> None:
        self._fleet = fleet
        self._schedules = schedules
        self._read_to = read_to

    async def make_owed(self) -> bool:
        """Makes the tasks whose instants have come; answers whether there were any."""
        owed = self._schedules.owed(self._fleet.log.now(), SCHEDULES_MAX)
        await asyncio.gather(*map(self._make_all, owed))
        return bool(owed)

    def look_at(self) -> datetime:
        """When to ask again, unless an event comes before."""
        latest = self._fleet.log.now() + LOOK
        return min(self._schedules.next_at() or latest, latest)

    async def _make_all(self, owed: Owed) -> None:
        name = owed.schedule.name
        try:
            for instant in owed.instants:
                if not await self._make(owed.schedule, instant):
                    break
                self._schedules.deal(name, instant)
        except (TransportError, LogFull) as error:
            logger.warning("schedule %s has to wait: %s", name, error)
            again_s = FULL_AGAIN_S if isinstance(error, LogFull) else AGAIN_S
            await self._fleet.system.clock.sleep(again_s)
        finally:
            # What was not dealt with is owed again then, by the rule for what is late.
            self._schedules.go_on(name)

    async def _make(self, planned: Schedule, instant: datetime) -> bool:
        """Makes the task, if it is to be made; answers False when the schedule is another one by now."""
        if planned.rule is not None and planned.rule.overlap == "skip":
            # Whether the task before had settled by then is known once everything up to then is read.
            await self._read_to(await self._fleet.log.end())
        schedule = self._schedules.known.get(planned.name)
        if schedule is None or schedule.version != planned.version:
            return False
        if schedule.last_instant is not None and schedule.last_instant >= instant:
            return True
        if is_skipped(schedule, instant):
            logger.info("schedule %s skips %s: its last task runs", schedule.name, instant)
            return True
        await self._fleet.room.check_free()
        assert schedule.rule is not None
        await self._fleet.derived.ensure((schedule.rule.spec,))
        with suppress(ConflictError):  # then another coordinator was first
            await self._fleet.log.append(_first_append(self._fleet, schedule, instant))
        return True


def _first_append(fleet: Fleet, schedule: Schedule, instant: datetime) -> Append:
    """The first event of the task for an instant: the same, whoever makes it."""
    rule = schedule.rule
    assert rule is not None
    task = Task(id=task_id_of(schedule.name, instant))
    command = Submit(
        id=f"{task.id}-scheduled",
        cause=rule.id,
        spec=msgspec.structs.replace(rule.spec, schedule=schedule.name),
        digest=rule.digest,
    )
    event = decide(command, task, fleet.log.now())
    assert not isinstance(event, Refusal)
    return entry(subject_of(fleet.name, task, event), 0, event)
