"""The end of a log, and what comes behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from fleetlog.bus.call import near_names
from fleetlog.bus.log import EventLog
from fleetlog.schemas import subjects
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

COUNT_DEFAULT: Final = 20
_WINDOW: Final = 1000
_TYPES: Final = [
    f"{kind}.{verb}" for kind, verbs in subjects.VERBS.items() for verb in sorted(verbs)
]


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted."""

    after: int | None
    """Those behind this one; None for the last ones."""
    count: int | None
    """How many at most."""
    event_type: str | None
    """Of this type only."""
    task_id: str | None
    """Of this task only."""


def check_tail(wanted: Tail) -> Tail:
    """Returns what is wanted, if there can be any.

    Raises:
        InvalidInput: there is no such type of event, or the task id can't be one.
    """
    if wanted.event_type is not None and wanted.event_type not in _TYPES:
        near = near_names(wanted.event_type, dict.fromkeys(_TYPES))
        raise InvalidInput(f"there are no events of type {wanted.event_type!r}{near}")
    if wanted.task_id is not None:
        check_id(wanted.task_id, "task id")
    return wanted


def filter_of(fleet: str, wanted: Tail) -> str | None:
    """The subject filter for what is wanted; a task's events are picked by type afterwards."""
    if wanted.task_id is not None:
        return subjects.guard(fleet, "task", wanted.task_id)
    if wanted.event_type is None:
        return None
    kind, _, verb = wanted.event_type.partition(".")
    if kind == "task":
        return subjects.tasks(fleet, verb=verb)
    between = "*.*" if kind == "worker" else "*"
    return f"{subjects.ROOT}.{fleet}.{kind}.{between}.{verb}"


async def read_tail(log: EventLog, wanted: Tail) -> AsyncIterator[list[Stored]]:
    """What is wanted of the log as it is now."""
    if wanted.after is None:
        yield await _last(log, wanted)
        return
    async for page in _first(
        log.read(after=wanted.after, subjects=filter_of(log.fleet, wanted)), wanted
    ):
        yield page


async def follow_tail(log: EventLog, wanted: Tail) -> AsyncIterator[list[Stored]]:
    """What is wanted of the log as it is now, then of what comes; ends only if `after` and `count` say so."""
    subject_filter = filter_of(log.fleet, wanted)
    if wanted.after is not None:
        async for page in _first(log.follow(after=wanted.after, subjects=subject_filter), wanted):
            yield page
        return
    end = await log.end()
    found = await _last(log, wanted)
    if found:
        yield found
    unlimited = msgspec.structs.replace(wanted, count=None)
    after = max(end, found[-1].seq if found else 0)
    async for page in _first(log.follow(after=after, subjects=subject_filter), unlimited):
        yield page


async def _last(log: EventLog, wanted: Tail) -> list[Stored]:
    """The last ones, found in windows that grow backwards from the end."""
    subject_filter = filter_of(log.fleet, wanted)
    count = wanted.count or COUNT_DEFAULT
    end, window = await log.end(), max(_WINDOW, count)
    while True:
        after = max(0, end - window)
        found = [
            stored
            async for page in log.read(after=after, subjects=subject_filter)
            for stored in page
            if _is_wanted(stored, wanted)
        ]
        if len(found) >= count or after == 0:
            return found[-count:]
        window *= 10


async def _first(pages: AsyncIterator[list[Stored]], wanted: Tail) -> AsyncIterator[list[Stored]]:
    left = wanted.count
    async for page in pages:
        picked = [stored for stored in page if _is_wanted(stored, wanted)][:left]
        if picked:
            yield picked
        if left is not None:
            left -= len(picked)
            if left <= 0:
                return


def _is_wanted(stored: Stored, wanted: Tail) -> bool:
    if wanted.task_id is None or wanted.event_type is None:
        return True  # the subject filter says it all
    subject = open_stored(stored).subject
    return subject is not None and f"{subject.kind}.{subject.verb}" == wanted.event_type
