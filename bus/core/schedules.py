"""The part of a coordinator's fold that follows schedules: takes events, says what is owed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from fleetlog.bus.core.agenda import Alarms
from fleetlog.bus.core.schedule import (
    Schedule,
    after_firing,
    after_settling,
    evolve_schedule,
    next_instant,
    owed,
)
from fleetlog.bus.core.task import Task
from fleetlog.schemas.envelope import Recorded


class Owed(msgspec.Struct, frozen=True):
    """Instants of one schedule whose time has come, in order."""

    schedule: Schedule
    """As it was then."""
    instants: tuple[datetime, ...]
    """At least one."""


class Schedules:
    """All schedules that are there, by name in `known`."""

    def __init__(self) -> None:
        self.known: dict[str, Schedule] = {}
        self._dealt: dict[str, datetime] = {}
        self._alarms = Alarms()

    def restore(self, schedules: Iterable[Schedule]) -> None:
        """Begins with what a snapshot holds."""
        for schedule in schedules:
            self._keep(schedule)

    def take(self, name: str, record: Recorded) -> None:
        """An event of a schedule was taken."""
        # What was dealt with belongs to the rule as it was: this may be news that came late.
        self._dealt.pop(name, None)
        self._keep(evolve_schedule(self.known.get(name, Schedule(name=name)), record))

    def take_task(self, before: Task, task: Task, record: Recorded) -> None:
        """An event of a task was taken; `task` is the state that it led to."""
        spec = task.spec
        if spec is None or spec.schedule is None:
            return
        schedule = self.known.get(spec.schedule)
        if schedule is None:
            return
        if before.status == "absent":
            schedule = after_firing(schedule, task.id, getattr(record.event, "cause", None))
        if task.is_settled and not before.is_settled:
            schedule = after_settling(schedule, task.id, record.stored_at)
        if schedule is not self.known[schedule.name]:
            self._keep(schedule)

    def owed(self, now: datetime, most: int) -> list[Owed]:
        """What is to do, of up to `most` schedules. Of each nothing more comes until `go_on`."""
        found: list[Owed] = []
        for name in self._alarms.ring(now):
            schedule = self.known[name]
            if instants := owed(schedule, self._after(schedule), now):
                found.append(Owed(schedule, tuple(instants)))
            else:
                self.go_on(name)
            if len(found) >= most:
                break
        return found

    def deal(self, name: str, instant: datetime) -> None:
        """Nothing is to do any more for an instant, nor for those before it, whether it made a task or not."""
        self._dealt[name] = instant

    def go_on(self, name: str) -> None:
        """Looks at a schedule again when its next instant has come: at once, if it has."""
        schedule = self.known.get(name)
        if schedule is None or schedule.status != "active":
            return
        if (at := next_instant(schedule, self._after(schedule))) is not None:
            self._alarms.set(name, at)

    def next_at(self) -> datetime | None:
        """When something may be owed; None when only an event can bring anything."""
        return self._alarms.next_at()

    def _keep(self, schedule: Schedule) -> None:
        if schedule.is_live:
            self.known[schedule.name] = schedule
        else:
            self.known.pop(schedule.name, None)
        if schedule.status == "active":
            self.go_on(schedule.name)
        else:
            self._alarms.drop(schedule.name)

    def _after(self, schedule: Schedule) -> datetime:
        assert schedule.since is not None
        known = (schedule.since, schedule.last_instant, self._dealt.get(schedule.name))
        return max(at for at in known if at is not None)
