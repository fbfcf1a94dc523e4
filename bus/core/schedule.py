"""A schedule as its events and its tasks tell it, and the instants at which it makes a task.

Pure, as all rules: every coordinator finds the same instants, and the ids of tasks are made of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, Literal

import msgspec

from fleetlog.bus.core.cron import check_cron, next_cron, zone_of
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import (
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSet,
)
from fleetlog.schemas.ids import check_id

NAME_LENGTH_MAX: Final = 64
EVERY_MIN_MS: Final = 1_000
LATE_MAX: Final = timedelta(seconds=60)
"""An instant that is no older is late; an older one was missed, and of such the last one counts."""
INSTANTS_MAX: Final = 1_000
"""So many of one schedule are looked at in one go."""

ScheduleStatus = Literal["absent", "active", "paused", "removed"]

_MICROSECOND: Final = timedelta(microseconds=1)
_INSTANT: Final = re.compile(r"[0-9]{8}T[0-9]{6}([0-9]{3})?Z")


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule after `version`. Made by `evolve_schedule`, `after_firing` and `after_settling` alone."""

    name: str
    """Unique within the fleet."""
    status: ScheduleStatus = "absent"
    """Only an active one makes tasks."""
    version: int = 0
    """Log sequence of its last event: what the next append must state."""
    rule: ScheduleSet | None = None
    """The last `set`."""
    set_at: datetime | None = None
    """When the log stored that: intervals are counted from there."""
    since: datetime | None = None
    """Instants up to this one make no tasks: when it was set or resumed."""
    changed_at: datetime | None = None
    """When the log stored its last event."""
    actor: str | None = None
    """Who wrote that."""
    reason: str | None = None
    """Why, in the actor's words."""
    last_instant: datetime | None = None
    """The latest one for which there is a task."""
    last_task_id: str | None = None
    """That task."""
    last_settled_at: datetime | None = None
    """When the log stored that task's outcome; None while it has none."""

    @property
    def is_live(self) -> bool:
        """Whether it is there: active or paused."""
        return self.status in ("active", "paused")


def check_name(name: str) -> str:
    """Returns `name` if a schedule may be called so.

    Raises:
        InvalidInput: it may not.
    """
    if len(check_id(name, "schedule")) > NAME_LENGTH_MAX:
        raise InvalidInput(
            f"schedule {name[:40]!r}… has {len(name)} characters, at most {NAME_LENGTH_MAX} are allowed"
        )
    return name


def check_rule(cron: str | None, every_ms: int | None, zone: str) -> None:
    """Refuses what is no rule.

    Raises:
        InvalidInput: names the field.
    """
    if (cron is None) == (every_ms is None):
        raise InvalidInput("a schedule needs either cron or every: give one of them")
    zone_of(zone)
    if cron is not None:
        check_cron(cron)
    elif every_ms is not None and every_ms < EVERY_MIN_MS:
        raise InvalidInput(f"every must be at least {EVERY_MIN_MS // 1000}s")


def evolve_schedule(schedule: Schedule, record: Recorded) -> Schedule:
    """The schedule after an event of its own; one that does not fit changes the version alone."""
    if record.seq <= schedule.version:
        return schedule
    schedule = msgspec.structs.replace(schedule, version=record.seq)
    event, at = record.event, record.stored_at
    match event:
        case ScheduleSet():
            # Who paused it had a reason that another rule does not take away.
            status: ScheduleStatus = "paused" if schedule.status == "paused" else "active"
            changes = {"status": status, "rule": event, "set_at": at, "since": at}
        case ScheduleRemoved() if schedule.is_live:
            changes = {"status": "removed"}
        case SchedulePaused() if schedule.status == "active":
            changes = {"status": "paused"}
        case ScheduleResumed() if schedule.status == "paused":
            changes = {"status": "active", "since": at}
        case _:
            return schedule
    word = {"changed_at": at, "actor": event.actor, "reason": event.reason}
    return msgspec.structs.replace(schedule, **changes, **word)


def after_firing(schedule: Schedule, task_id: str, cause: str | None) -> Schedule:
    """The schedule after the first event of a task that names it.

    By its id it must be one of the schedule's, and by its cause one of the rule's: what a coordinator still
    made of the rule before says nothing about the instants of this one.
    """
    instant = instant_of(schedule.name, task_id)
    if instant is None or schedule.rule is None or cause != schedule.rule.id:
        return schedule
    if schedule.last_instant is not None and instant <= schedule.last_instant:
        return schedule
    return msgspec.structs.replace(
        schedule, last_instant=instant, last_task_id=task_id, last_settled_at=None
    )


def after_settling(schedule: Schedule, task_id: str, at: datetime) -> Schedule:
    """The schedule after the outcome of a task that names it."""
    if task_id != schedule.last_task_id:
        return schedule
    return msgspec.structs.replace(schedule, last_settled_at=at)


def task_id_of(name: str, instant: datetime) -> str:
    """The id of the task for an instant: `<name>-20261121T173000Z`, milliseconds added if there are any."""
    milliseconds = instant.microsecond // 1000
    text = instant.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{name}-{text}{f'{milliseconds:03}' if milliseconds else ''}Z"


def instant_of(name: str, task_id: str) -> datetime | None:
    """The instant in a task's id; None if the id is not one of the schedule's."""
    text = task_id.removeprefix(f"{name}-")
    if text == task_id or _INSTANT.fullmatch(text) is None:
        return None
    try:
        instant = datetime.strptime(text[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return instant + timedelta(milliseconds=int(text[15:-1] or 0))


def next_instant(schedule: Schedule, after: datetime) -> datetime | None:
    """The first instant of the rule after `after`, paused or not; None when there is none.

    A rule that another version or program wrote and that is not understood here has none.
    """
    rule, set_at = schedule.rule, schedule.set_at
    if rule is None or set_at is None:
        return None
    try:
        check_name(schedule.name)
        check_id(rule.spec.queue, "queue")
        if rule.every_ms is not None:
            return _next_of_interval(set_at, rule.every_ms, after)
        return next_cron(rule.cron, rule.zone, after) if rule.cron is not None else None
    except (ValueError, OverflowError):
        return None


def instants(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """The instants of the rule after `after`, up to and with `until`."""
    at = next_instant(schedule, after)
    while at is not None and at <= until:
        yield at
        at = next_instant(schedule, at)


def owed(schedule: Schedule, after: datetime, now: datetime) -> list[datetime]:
    """The instants after `after` at which tasks are still to be made at `now`: all that are merely late.

    If there are none but others were missed, the last of those. At most `INSTANTS_MAX`, the first ones.
    """
    if schedule.status != "active":
        return []
    recent = max(after, now - LATE_MAX - _MICROSECOND)
    late = list(islice(instants(schedule, recent, now), INSTANTS_MAX))
    if late or recent == after:
        return late
    missed = _last(schedule, after, recent)
    return [] if missed is None else [missed]


def is_skipped(schedule: Schedule, instant: datetime) -> bool:
    """Whether the one before is in the way: with `skip`, its task had not settled before the instant.

    The log alone decides, not the moment of asking, so that all who ask find the same.
    """
    if schedule.rule is None or schedule.rule.overlap != "skip" or schedule.last_task_id is None:
        return False
    return schedule.last_settled_at is None or schedule.last_settled_at >= instant


def _next_of_interval(set_at: datetime, every_ms: int, after: datetime) -> datetime:
    every = timedelta(milliseconds=every_ms)
    # Whole seconds make ids that are easier to read.
    precision_us = 1_000 if every_ms % 1_000 else 1_000_000
    anchor = set_at.replace(microsecond=set_at.microsecond // precision_us * precision_us)
    return anchor + max((after - anchor) // every + 1, 1) * every


def _last(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last instant after `after`, up to `until`: looked for in growing spans, as there may be millions."""
    span = LATE_MAX
    while True:
        start = max(after, until - span)
        last = None
        for last in instants(schedule, start, until):  # noqa: B007 - the last one is what is wanted
            pass
        if last is not None or start == after:
            return last
        span *= 8
