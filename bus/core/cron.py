"""Cron texts in a time zone: which instant comes next.

Fields and their matching are cronsim's, which are Debian cron's. What a change of the clocks does is decided
here, so that it is the same from wherever one starts to count; it is what Debian's cron does:

- A text whose minute and hour are both given (`30 2 * * *`, `0 8-17 * * mon-fri`) means times of day. One that
  the clocks skip comes as soon as they have; one that they show twice comes once, the first time.
- A text whose minute or hour begins with `*` (`*/15 * * * *`) means whatever the clocks show: what they skip
  does not come, and what they show twice comes twice.

Zone data is the installation's, read once for each zone like a module of code.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from fleetlog.schemas.errors import InvalidInput

CRON_LENGTH_MAX: Final = 256
FIELDS: Final = ("minute", "hour", "day-of-month", "month", "day-of-week")

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_ANY_DAY: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - what a clock shows, in any zone


@lru_cache(maxsize=1024)
def check_cron(text: str) -> str:
    """Returns `text` if it is a cron text that comes at some time.

    Raises:
        InvalidInput: it is not; names the field.
    """
    parts = text.split()
    if len(parts) != len(FIELDS) or len(text) > CRON_LENGTH_MAX:
        raise InvalidInput(
            f"cron {text[:40]!r} must have five fields: minute, hour, day of the month, month, day of the week;"
            ' such as "30 9 * * mon-fri". For seconds, use an interval'
        )
    try:
        first = next(CronSim(text, _ANY_DAY), None)
    except CronSimError as error:
        field = str(error).rpartition(" ")[2]
        value = parts[FIELDS.index(field)] if field in FIELDS else text
        raise InvalidInput(
            f"cron {text!r} is not valid: {value!r} is no {field}, or none that the other fields allow"
        ) from error
    if first is None:
        raise InvalidInput(f"cron {text!r} never comes: no day is like that")
    return text


def zone_of(name: str) -> ZoneInfo:
    """The time zone with an IANA name.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise InvalidInput(
            f"zone {name[:40]!r} is not known here: use an IANA name, such as Europe/Berlin or UTC"
        ) from error


def next_cron(text: str, zone: str, after: datetime) -> datetime | None:
    """The first instant of a cron text after `after`, in UTC; None when none comes within 50 years.

    Raises:
        InvalidInput: text or zone are not valid.
    """
    check_cron(text)
    place = zone_of(zone)
    minute, hour = text.split()[:2]
    is_of_day = not (minute.startswith("*") or hour.startswith("*"))
    return (_next_of_day if is_of_day else _next_shown)(text, place, after.astimezone(UTC))


def _next_of_day(text: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    # Of an hour that comes twice the first counts: in the second one, what the clocks show next may have been.
    return next(
        (at for wall in _walls(text, _wall(after, zone)) if (at := _first_at(wall, zone)) > after),
        None,
    )


def _next_shown(text: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Counts with the zone's offset as it is, and from each change of it anew."""
    wall = _wall(after, zone)
    while True:
        found = next(_walls(text, wall), None)
        if found is None:
            return None
        at = (found - _offset(after, zone)).replace(tzinfo=UTC)
        change = _next_change(zone, after, at)
        if change is None:
            return at
        after, wall = change, _wall(change, zone) - _SECOND


def _walls(text: str, after: datetime) -> Iterator[datetime]:
    return CronSim(text, after)


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks show."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return _wall(at, zone) - at.replace(tzinfo=None)


def _first_at(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clocks first show `wall`; if they skip it, when they do that."""
    at = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(at, zone) == wall:
        return at
    # Skipped: read with the offset from after the change it is before that, and the other way round.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _next_change(zone, before, at) or at


def _next_change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """The first instant after `start`, up to `end`, from which on another offset holds.

    Two changes within a day that undo each other are not seen; no zone has had such.
    """
    offset = _offset(start, zone)
    while start < end:
        ahead = min(start + _DAY, end)
        if _offset(ahead, zone) != offset:
            return _narrow(zone, start, ahead)
        start = ahead
    return None


def _narrow(zone: ZoneInfo, start: datetime, end: datetime) -> datetime:
    offset = _offset(start, zone)
    # Changes come at whole seconds.
    start, end = (
        start.replace(microsecond=0),
        end.replace(microsecond=0) + _SECOND * bool(end.microsecond),
    )
    while end - start > _SECOND:
        middle = start + (end - start) // (2 * _SECOND) * _SECOND
        if _offset(middle, zone) == offset:
            start = middle
        else:
            end = middle
    return end
