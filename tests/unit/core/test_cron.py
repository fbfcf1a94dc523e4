"""Cron texts: what is one, and what comes next when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetlog.bus.core import cron
from fleetlog.bus.core.cron import check_cron, next_cron, zone_of
from fleetlog.schemas.errors import InvalidInput


def instants(text: str, zone: str, after: str, count: int) -> list[str]:
    """The next instants as the zone's clocks show them, with the hour's offset from UTC."""
    at: datetime | None = datetime.fromisoformat(after).replace(tzinfo=zone_of(zone))
    found = []
    for _ in range(count):
        assert at is not None
        at = next_cron(text, zone, at)
        assert at is not None
        assert at.tzinfo is UTC
        local = at.astimezone(zone_of(zone))
        found.append(local.isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize(
    ("text", "zone", "after", "comes"),
    [
        ("*/5 9-17 * * mon-fri", "UTC", "2026-11-20T17:52", ["2026-11-20T17:55", "2026-11-23T09:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-11-20T02:30", ["2026-11-21T02:30", "2026-11-22T02:30"]),
        ("0 0 29 2 *", "UTC", "2026-11-20T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("15 8 1 * sun", "UTC", "2026-11-20T00:00", ["2026-11-22T08:15", "2026-11-29T08:15"]),
        ("0 12 13 * fri", "UTC", "2026-11-20T13:00", ["2026-11-27T12:00", "2026-12-04T12:00"]),
        ("0 12 L * *", "UTC", "2027-02-01T00:00", ["2027-02-28T12:00", "2027-03-31T12:00"]),
    ],
)  # fmt: skip
def test_fields_are_debian_crons(text: str, zone: str, after: str, comes: list[str]) -> None:
    found = instants(text, zone, after, 2)
    assert [each[:16] for each in found] == comes


def test_an_instant_is_after_the_one_it_is_asked_for() -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    assert next_cron("0 12 * * *", "UTC", noon - tick) == noon
    assert next_cron("0 12 * * *", "UTC", noon) == noon + timedelta(days=1)
    assert next_cron("0 12 * * *", "UTC", noon + tick) == noon + timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "comes"),
    [
        # Berlin's clocks go from 02:00 to 03:00 on 28 March 2027.
        ("30 2 * * *", ["2027-03-27T02:30+01:00", "2027-03-28T03:00+02:00", "2027-03-29T02:30+02:00"]),
        ("0,30 2 * * *", ["2027-03-27T02:30+01:00", "2027-03-28T03:00+02:00", "2027-03-29T02:00+02:00"]),
        ("30 2,3 * * *", ["2027-03-27T02:30+01:00", "2027-03-27T03:30+01:00", "2027-03-28T03:00+02:00"]),
        ("*/30 2 * * *", ["2027-03-27T02:30+01:00", "2027-03-29T02:00+02:00", "2027-03-29T02:30+02:00"]),
    ],
)  # fmt: skip
def test_when_clocks_are_put_forward_a_time_of_day_comes_at_once(
    text: str, comes: list[str]
) -> None:
    assert instants(text, "Europe/Berlin", "2027-03-27T02:15", 3) == comes


def test_an_hourly_text_knows_no_skipped_hour() -> None:
    assert instants("0 * * * *", "Europe/Berlin", "2027-03-28T00:30", 3) == [
        "2027-03-28T01:00+01:00",
        "2027-03-28T03:00+02:00",
        "2027-03-28T04:00+02:00",
    ]


@pytest.mark.parametrize(
    ("text", "comes"),
    [
        # From 03:00 back to 02:00 on 31 October 2027.
        ("30 2 * * *", ["2027-10-31T02:30+02:00", "2027-11-01T02:30+01:00"]),
        ("30 1-3 * * *", ["2027-10-31T01:30+02:00", "2027-10-31T02:30+02:00", "2027-10-31T03:30+01:00"]),
        ("30 * * * *", ["2027-10-31T01:30+02:00", "2027-10-31T02:30+02:00", "2027-10-31T02:30+01:00",
                        "2027-10-31T03:30+01:00"]),
        ("*/30 2 * * *", ["2027-10-31T02:00+02:00", "2027-10-31T02:30+02:00", "2027-10-31T02:00+01:00",
                          "2027-10-31T02:30+01:00", "2027-11-01T02:00+01:00"]),
    ],
)  # fmt: skip
def test_when_clocks_are_put_back_a_time_of_day_comes_once(text: str, comes: list[str]) -> None:
    assert instants(text, "Europe/Berlin", "2027-10-31T01:00", len(comes)) == comes


def test_a_time_of_day_does_not_come_again_for_who_asks_in_the_second_hour() -> None:
    second = datetime(2027, 10, 31, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert next_cron("30 2 * * *", "Europe/Berlin", second) == datetime(
        2027, 11, 1, 1, 30, tzinfo=UTC
    )


def test_a_zone_whose_clocks_move_by_half_an_hour() -> None:
    # Lord Howe: from 02:00 to 02:30 on 3 October 2027.
    assert instants("*/20 2,3 * * *", "Australia/Lord_Howe", "2027-10-03T00:00", 4) == [
        "2027-10-03T02:40+11:00",
        "2027-10-03T03:00+11:00",
        "2027-10-03T03:20+11:00",
        "2027-10-03T03:40+11:00",
    ]
    assert instants("10 2 * * *", "Australia/Lord_Howe", "2027-10-03T00:00", 1) == [
        "2027-10-03T02:30+11:00"
    ]


def test_a_midnight_that_is_skipped_comes_at_the_first_minute_of_the_day() -> None:
    # Cairo's clocks go from 00:00 to 01:00 on 30 April 2027.
    assert instants("0 0 * * *", "Africa/Cairo", "2027-04-29T12:00", 2) == [
        "2027-04-30T01:00+03:00",
        "2027-05-01T00:00+03:00",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("61 * * * *", "'61' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day-of-month"),
        ("* * * JANUARY *", "'JANUARY' is no month"),
        ("* * * * fr-mo", "'fr-mo' is no day-of-week"),
        ("0 0 30 2 *", "'30' is no day-of-month, or none that the other fields allow"),
        ("* * */20 * 1L", "never comes"),
        ("* * * *", "must have five fields"),
        ("0 * * * * *", "must have five fields"),
        ("@daily", "must have five fields"),
        ("", "must have five fields"),
        (f"{'1,' * 200}1 * * * *", "must have five fields"),
    ],
)
def test_a_text_that_is_wrong_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_cron(text)
    assert says in str(refused.value)
    with pytest.raises(InvalidInput):
        next_cron(text, "UTC", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "Europe", "../etc/passwd", "/etc/passwd", "é", "a\0b"]
)
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not known here"):
        zone_of(name)


def test_a_text_that_comes_rarely_is_found() -> None:
    after = datetime(2072, 3, 1, tzinfo=UTC)
    assert next_cron("0 0 * 2 MON#5", "UTC", after) == datetime(2112, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize("next_of", [cron._next_of_day, cron._next_shown])
def test_nothing_comes_after_the_last_one(next_of: Any) -> None:
    never = "* * */20 * 1L"  # as no text is that `check_cron` lets pass
    assert next_of(never, zone_of("Europe/Berlin"), datetime(2026, 1, 1, tzinfo=UTC)) is None
