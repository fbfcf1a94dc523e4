"""Cron texts against a reference that looks at every minute, near the days when clocks are changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from fleetlog.bus.core.cron import next_cron

MINUTE = timedelta(minutes=1)
DAYS = 3
CHANGES = [
    ("Europe/Berlin", date(2027, 3, 28)),
    ("Europe/Berlin", date(2027, 10, 31)),
    ("America/New_York", date(2027, 3, 14)),
    ("America/New_York", date(2027, 11, 7)),
    ("America/Santiago", date(2027, 4, 4)),
    ("America/Santiago", date(2027, 9, 5)),
    ("Australia/Lord_Howe", date(2027, 4, 4)),
    ("Australia/Lord_Howe", date(2027, 10, 3)),
    ("Africa/Cairo", date(2027, 4, 30)),
    ("Asia/Kathmandu", date(2027, 4, 1)),
    ("UTC", date(2028, 2, 29)),
]


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.integers(2, 20).map("*/{}".format),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.lists(number, min_size=2, max_size=4).map(lambda found: ",".join(map(str, found))),
    )


TEXTS = st.tuples(
    fields(0, 59),
    st.one_of(fields(0, 23), fields(0, 4)),
    st.just("*"),
    st.just("*"),
    st.one_of(st.just("*"), fields(0, 6)),
).map(" ".join)


def values(field: str, low: int, high: int) -> set[int]:
    if field == "*":
        return set(range(low, high + 1))
    if field.startswith("*/"):
        return set(range(low, high + 1, int(field[2:])))
    if "-" in field:
        first, last = map(int, field.split("-"))
        return set(range(first, last + 1))
    return set(map(int, field.split(",")))


def reference(text: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """All instants after `start` and before `end`, by what the clocks show at every minute."""
    minute, hour, _, _, weekday = text.split()
    minutes, hours, weekdays = values(minute, 0, 59), values(hour, 0, 23), values(weekday, 0, 6)

    def fits(wall: datetime) -> bool:
        return (
            wall.minute in minutes and wall.hour in hours and (wall.weekday() + 1) % 7 in weekdays
        )

    shown: dict[datetime, datetime] = {}
    found: set[datetime] = set()
    is_of_day = not minute.startswith("*") and not hour.startswith("*")
    before: datetime | None = None
    at = start - timedelta(days=1)
    while at < end + timedelta(days=1):
        wall = at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if is_of_day:
            # What the clocks jumped over comes now; what they show again has been.
            skipped = before + MINUTE if before is not None else wall
            while skipped < wall:
                if fits(skipped):
                    found.add(at)
                skipped += MINUTE
            if fits(wall) and wall not in shown:
                found.add(at)
        elif fits(wall):
            found.add(at)
        shown.setdefault(wall, at)
        before, at = wall, at + MINUTE
    return sorted(each for each in found if start < each < end)


@given(text=TEXTS, change=st.sampled_from(CHANGES), ahead=st.integers(0, 60 * 48))
def test_cron_is_what_the_clocks_show(text: str, change: tuple[str, date], ahead: int) -> None:
    zone, day = change
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - ahead * MINUTE
    end = start + timedelta(days=DAYS)
    expected = reference(text, zone, start, end)
    found = []
    at = next_cron(text, zone, start)
    while at is not None and at < end:
        found.append(at)
        at = next_cron(text, zone, at)
    assert found == expected


@given(
    text=TEXTS,
    change=st.sampled_from(CHANGES),
    ahead_s=st.integers(-86_400, 86_400),
    step_s=st.integers(0, 86_400),
)
def test_it_does_not_matter_where_one_begins_to_count(
    text: str, change: tuple[str, date], ahead_s: int, step_s: int
) -> None:
    zone, day = change
    start = datetime(day.year, day.month, day.day, 2, tzinfo=UTC) + timedelta(seconds=ahead_s)
    first = next_cron(text, zone, start)
    assert first is not None
    assert first > start
    between = min(start + timedelta(seconds=step_s), first - timedelta(microseconds=1))
    assert next_cron(text, zone, between) == first
