"""Texts from outside, on a person's terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from fleetlog.cli.events import stored_fields, stored_line
from fleetlog.cli.rendering import aligned, instant_text, one_line, printable, shortened
from fleetlog.schemas.envelope import Stored, encode
from fleetlog.schemas.events import WorkerRefused


def test_one_line_has_no_control_characters() -> None:
    assert one_line(" a\tb\r\nc\x1b[2J\x07\x9b ") == "a b c\\x1b[2J\\x07\\x9b"


def test_printable_keeps_lines() -> None:
    assert printable("a\n  b\x1b[0m\n") == "a\n  b\\x1b[0m"


def test_shortened_says_that_it_is() -> None:
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"


def test_instants_are_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert (
        instant_text(datetime(2026, 1, 1, 2, 0, 0, 1234, tzinfo=zone)) == "2026-01-01 00:00:00.001Z"
    )
    assert instant_text(datetime(2026, 1, 1, tzinfo=zone)) == "2025-12-31 22:00:00.000Z"
    assert instant_text(None) == "-"


def test_columns_are_aligned() -> None:
    assert aligned(("a", "long"), [("wide", "x"), ("", "y")]) == "a     long\nwide  x\n      y"
    assert aligned(("a", "b"), []) == "a  b"


@pytest.mark.parametrize(
    ("subject", "data", "says"),
    [
        ("fleetlog.f.agent.a.started", b'{"type":"agent.started"', "not JSON"),
        ("fleetlog.f.agent.a.started", b"[1]", "not an event"),
        ("elsewhere", b'{"type":"x"}', "is not a subject of the log"),
    ],
)
def test_what_is_no_event_is_shown_raw(subject: str, data: bytes, says: str) -> None:
    stored = Stored(7, 0, subject, data)
    line = stored_line(stored)
    assert "unknown event" in line
    assert says in line
    assert data.decode() in line
    assert says in stored_fields(stored)["unknown"]


def test_refused_result_names_its_task() -> None:
    event = WorkerRefused(
        id="e",
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        task_id="t1",
        attempt=2,
        fence=9,
        verb="completed",
        digest="d",
    )
    stored = Stored(8, 0, "fleetlog.f.worker.a1.w1.refused", encode(event))
    assert "a1/w1  task=t1 would-be=completed attempt=2" in stored_line(stored)
    assert msgspec.json.encode(stored_fields(stored))
