"""Cron texts in a time zone, as Debian's cron reads them: whether an instant is one of theirs.

Asked for one instant after the other, this looks at what the clocks show then, and never counts ahead.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_MINUTE: Final = timedelta(minutes=1)
_SECOND: Final = timedelta(seconds=1)
_DAYS: Final = dict(zip(("sun", "mon", "tue", "wed", "thu", "fri", "sat"), range(7), strict=True))
_MONTH_NAMES: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES.split(), 1)}
_BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_PART: Final = re.compile(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]+))?")


class Cron(NamedTuple):
    """A text, read."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Sunday is 0."""
    is_any_day: bool
    """One of the two fields for days begins with `*`: then both have to fit, else one is enough."""
    is_of_day: bool
    """Minute and hour are given: it means times of day, which the clocks may skip or show twice."""

    def shows(self, wall: datetime) -> bool:
        """Whether clocks that show this mean it."""
        is_day = wall.day in self.days
        is_weekday = wall.isoweekday() % 7 in self.weekdays
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.month in self.months
            and ((is_day and is_weekday) if self.is_any_day else (is_day or is_weekday))
        )


@lru_cache(maxsize=1000)
def read_cron(text: str) -> Cron | None:
    """The text's five fields; None for what is not plain: names of days in the month, `L`, `#`, `W`."""
    fields = text.lower().split()
    if len(fields) != len(_BOUNDS):
        return None
    names: tuple[dict[str, int], ...] = ({}, {}, {}, _MONTHS, _DAYS)
    sets = [_field(*each) for each in zip(fields, _BOUNDS, names, strict=True)]
    if any(each is None for each in sets):
        return None
    minutes, hours, days, months, weekdays = [each or frozenset() for each in sets]
    return Cron(
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        is_any_day=fields[2].startswith("*") or fields[4].startswith("*"),
        is_of_day=not (fields[0].startswith("*") or fields[1].startswith("*")),
    )


def is_instant(cron: Cron, zone: ZoneInfo, at: datetime) -> bool:
    """Whether the text means this instant."""
    if at.second or at.microsecond:
        return False
    wall = at.astimezone(zone)
    if not cron.is_of_day:
        return cron.shows(wall)
    if cron.shows(wall) and wall.fold == 0:
        return True
    # A time of day that the clocks skip comes at the moment at which they do.
    skipped = (at - _SECOND).astimezone(zone).replace(tzinfo=None) + _SECOND
    shown = wall.replace(tzinfo=None)
    while skipped < shown:
        if cron.shows(skipped):
            return True
        skipped += _MINUTE
    return False


def _field(text: str, bounds: tuple[int, int], names: dict[str, int]) -> frozenset[int] | None:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        first, last = bounds
        if match[1] is not None:
            if (start := _number(match[1], names)) is None:
                return None
            end = _number(match[2], names) if match[2] else start
            # `5/15` begins at 5 and goes on to the end.
            first, last = start, bounds[1] if match[3] and not match[2] else (end or 0)
        if not bounds[0] <= first <= last <= bounds[1] or match[3] == "0":
            return None
        found.update(range(first, last + 1, int(match[3] or 1)))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int | None:
    return int(text) if text.isdecimal() else names.get(text)
