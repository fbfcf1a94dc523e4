"""Durations as people write them."""

from __future__ import annotations

import pytest

from fleetlog.schemas.durations import DURATION_MAX_MS, format_duration, parse_duration
from fleetlog.schemas.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("1.5h", 5_400_000),
        ("0.1s", 100),
        (" 1H ", 3_600_000),
        ("1m1ms", 60_001),
        ("3650d", DURATION_MAX_MS),
    ],
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "5", "s", "-1s", "+1s", "1 s", "1h 30m", "1w", "1y", "1,5s", ".5s", "1.s"),
        *("1sx", "x1s", "1e3s", "٣s", "infs", "nans", "0x1s", "1.5", "9" * 400 + "s"),
        "0.1234567891s",
    ],
)
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^timeout .* is not a duration"):
        parse_duration(text, "timeout")


@pytest.mark.parametrize("text", ["3651d", "3650d1ms", "999999999999999d"])
def test_more_than_ten_years_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="longer than ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (1, "1ms"), (1_000, "1s"), (90_061_001, "1d1h1m1s1ms"), (5_400_000, "1h30m")],
)
def test_durations_are_written_as_short_as_can_be(ms: int, text: str) -> None:
    assert format_duration(ms) == text
    assert parse_duration(text) == ms
