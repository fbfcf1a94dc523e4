"""Schedules of a fleet: how they stand, and how to set, remove, pause and resume them from any process."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fleetlog.bus.core.schedule import Schedule, check_name, check_rule, evolve_schedule
from fleetlog.bus.errors import ConflictError, ScheduleExists, ScheduleNotFound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import EventLog, entry
from fleetlog.bus.objects import ref_of
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import (
    ScheduleEvent,
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSet,
    verb_of,
)
from fleetlog.schemas.objects import INLINE_MAX_BYTES
from fleetlog.schemas.specs import NO_ARGS, TaskSpec, check_spec, payload_digest
from fleetlog.schemas.subjects import Subject, guard, schedules

_Change = ScheduleRemoved | SchedulePaused | ScheduleResumed
_KINDS: Final[dict[str, type[_Change]]] = {
    "removed": ScheduleRemoved,
    "paused": SchedulePaused,
    "resumed": ScheduleResumed,
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule shall do; either `cron` or `every_ms`."""

    spec: TaskSpec
    """What each of its tasks is."""
    cron: str | None = None
    """Five fields, see `bus/core/cron.py`."""
    every_ms: int | None = None
    """At least a second."""
    zone: str = "UTC"
    """The IANA name of the zone that `cron` is read in."""
    overlap: Literal["allow", "skip"] = "allow"
    """`skip`: no task while the one before has not settled."""


def check_wanted(wanted: Wanted) -> None:
    """Refuses what no schedule can be.

    Raises:
        InvalidInput: names the field.
    """
    check_rule(wanted.cron, wanted.every_ms, wanted.zone)
    spec = check_spec(wanted.spec)
    if spec.key is not None:
        raise InvalidInput("a schedule's tasks can't have a key: each has an id by its instant")
    if spec.after or spec.continues or spec.barrier_id or spec.schedule:
        raise InvalidInput("a schedule's tasks can't wait for other tasks, nor belong to a fan-out")


async def read_schedules(log: EventLog) -> dict[str, Schedule]:
    """All schedules that the log tells of, by name, those that were removed too; not what they made."""
    known: dict[str, Schedule] = {}
    async for page in log.read(subjects=schedules(log.fleet)):
        for record in map(open_stored, page):
            if record.subject is not None:
                name = record.subject.id
                known[name] = evolve_schedule(known.get(name, Schedule(name=name)), record)
    return known


async def load_schedule(log: EventLog, name: str) -> Schedule:
    """One schedule as the log tells it now; not what it made."""
    schedule = Schedule(name=name)
    for stored in await log.read_thing(guard(log.fleet, "schedule", name)):
        schedule = evolve_schedule(schedule, open_stored(stored))
    return schedule


async def set_schedule(
    fleet: Fleet, name: str, wanted: Wanted, *, is_replacing: bool = False, actor: str | None = None
) -> tuple[Schedule, bool]:
    """Sets a schedule; answers how it stands, and whether this call changed it. Safe to repeat.

    Instants count from the moment when the log has it. One that is there and the same is left as it is.

    Raises:
        InvalidInput: the name, the rule or the task is not allowed; nothing was written.
        ScheduleExists: it is there and is another one, and `is_replacing` is false; nothing was written.
        LogFull: the log takes no new tasks; nothing was written.
    """
    check_name(name)
    check_wanted(wanted)
    await fleet.room.check(wanted.spec)
    event = ScheduleSet(
        id=fleet.system.new_id(),
        occurred_at=fleet.log.now(),
        actor=actor,
        spec=await _stored(fleet, wanted.spec),
        digest=payload_digest(wanted.spec),
        cron=wanted.cron,
        every_ms=wanted.every_ms,
        zone=wanted.zone,
        overlap=wanted.overlap,
    )

    def is_owed(schedule: Schedule) -> bool:
        if not schedule.is_live or schedule.rule is None:
            return True
        if _is_same(schedule.rule, event):
            return False
        if not is_replacing:
            raise ScheduleExists(
                f"schedule {name} is there with another rule or task: add it with --replace to replace"
                " it, or see `fleetlog schedule list`"
            )
        return True

    while True:
        schedule = await load_schedule(fleet.log, name)
        if not is_owed(schedule):
            return schedule, False
        if await _append(fleet, schedule, event):
            return await load_schedule(fleet.log, name), True


async def change_schedule(
    fleet: Fleet,
    name: str,
    verb: Literal["removed", "paused", "resumed"],
    *,
    actor: str | None = None,
    reason: str | None = None,
) -> tuple[Schedule, bool]:
    """Removes, pauses or resumes a schedule; answers how it stands, and whether this call changed it.

    One that stands as wanted is left as it is, with its actor and reason. Safe to repeat.

    Raises:
        ScheduleNotFound: there is none of this name.
    """
    check_name(name)
    event = _KINDS[verb](
        id=fleet.system.new_id(), occurred_at=fleet.log.now(), actor=actor, reason=reason
    )
    status = {"removed": "removed", "paused": "paused", "resumed": "active"}[verb]
    while True:
        schedule = await load_schedule(fleet.log, name)
        if schedule.status == status:
            return schedule, False
        if not schedule.is_live:
            raise ScheduleNotFound(
                f"there is no schedule {name}; `fleetlog schedule list` shows what there is"
            )
        if await _append(fleet, schedule, event):
            return await load_schedule(fleet.log, name), True


async def _append(fleet: Fleet, schedule: Schedule, event: ScheduleEvent) -> bool:
    """Answers whether it is in the log; if not, another one wrote first."""
    subject = Subject(fleet.name, "schedule", schedule.name, verb_of(event))
    try:
        await fleet.log.append(entry(subject, schedule.version, event))
    except ConflictError:
        return False
    return True


async def _stored(fleet: Fleet, spec: TaskSpec) -> TaskSpec:
    """The spec as an event can hold it: large arguments are put into the object store before."""
    args = bytes(spec.args)
    if len(args) <= INLINE_MAX_BYTES:
        return spec
    await fleet.objects.put(args)
    return msgspec.structs.replace(spec, args=NO_ARGS, args_ref=ref_of(args))


def _is_same(one: ScheduleSet, other: ScheduleSet) -> bool:
    # The digest stands for the arguments, whatever their white space.
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("digest", "cron", "every_ms", "zone", "overlap")
    ) and _without_args(one.spec) == _without_args(other.spec)


def _without_args(spec: TaskSpec) -> TaskSpec:
    return msgspec.structs.replace(spec, args=NO_ARGS, args_ref=None)
