"""A schedule's life, its instants, and which of them are owed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fleetlog.bus.core.schedule import (
    INSTANTS_MAX,
    Schedule,
    after_firing,
    after_settling,
    check_name,
    check_rule,
    evolve_schedule,
    instant_of,
    is_skipped,
    next_instant,
    owed,
    task_id_of,
)
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import (
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSet,
)
from fleetlog.schemas.specs import TaskSpec
from tests.given import T0, at, record

STAMP: dict[str, Any] = {"id": "e", "occurred_at": T0}
SET = ScheduleSet(spec=TaskSpec(handler="h"), digest="d", every_ms=10_000, **STAMP)
PAUSED = SchedulePaused(actor="ann", reason="too hot", **STAMP)
RESUMED = ScheduleResumed(**STAMP)
REMOVED = ScheduleRemoved(**STAMP)


def ruled(**rule: Any) -> ScheduleSet:
    return ScheduleSet(spec=TaskSpec(handler="h"), digest="d", **STAMP, **rule)


def fold(*events: Any) -> Schedule:
    """Event n is stored n - 1 seconds after the first."""
    schedule = Schedule(name="s")
    for seq, event in enumerate(events, 1):
        schedule = evolve_schedule(schedule, record(seq, event))
    return schedule


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((), "absent"),
        ((SET,), "active"),
        ((SET, PAUSED), "paused"),
        ((SET, PAUSED, RESUMED), "active"),
        ((SET, REMOVED), "removed"),
        ((SET, PAUSED, REMOVED), "removed"),
        ((SET, PAUSED, REMOVED, SET), "active"),
        ((SET, PAUSED, SET), "paused"),
        ((PAUSED, SET), "active"),
        ((REMOVED,), "absent"),
        ((SET, RESUMED), "active"),
        ((SET, UnknownEvent("schedule.moved", "?")), "active"),
    ],
)
def test_the_last_event_that_fits_says_how_it_stands(events: Any, status: str) -> None:
    schedule = fold(*events)
    assert schedule.status == status
    assert schedule.version == len(events)
    assert schedule.is_live is (status in ("active", "paused"))


def test_an_event_that_was_seen_changes_nothing() -> None:
    schedule = fold(SET, PAUSED)
    assert evolve_schedule(schedule, record(1, REMOVED)) is schedule


def test_it_knows_who_changed_it_when() -> None:
    schedule = fold(SET, PAUSED)
    assert (schedule.actor, schedule.reason, schedule.changed_at) == ("ann", "too hot", at(1))
    assert fold(SET, PAUSED, PAUSED).changed_at == at(1)


def test_instants_count_from_the_set_and_from_a_resume_on() -> None:
    assert (fold(SET).set_at, fold(SET).since) == (at(0), at(0))
    schedule = fold(SET, PAUSED, RESUMED)
    assert (schedule.set_at, schedule.since) == (at(0), at(2))


@pytest.mark.parametrize(
    ("instant", "task_id"),
    [
        (datetime(2026, 11, 21, 17, 30, tzinfo=UTC), "s-20261121T173000Z"),
        (datetime(2026, 11, 21, 17, 30, 5, 42_000, tzinfo=UTC), "s-20261121T173005042Z"),
        (datetime(2026, 11, 21, 17, 30, 5, 999, tzinfo=UTC), "s-20261121T173005Z"),
    ],
)
def test_a_tasks_id_tells_its_instant(instant: datetime, task_id: str) -> None:
    assert task_id_of("s", instant) == task_id
    assert instant_of("s", task_id) == instant.replace(
        microsecond=instant.microsecond // 1000 * 1000
    )


@pytest.mark.parametrize(
    "task_id",
    [
        "s-20261121T173000Z-r1",
        "s-20261321T173000Z",
        "s-2026112T173000Z",
        "t-20261121T173000Z",
        "s20261121T173000Z",
        "s-",
        "s",
    ],
)
def test_another_id_tells_none(task_id: str) -> None:
    assert instant_of("s", task_id) is None
    schedule = fold(SET)
    assert after_firing(schedule, task_id, "e") is schedule


def test_of_its_tasks_it_knows_the_latest() -> None:
    schedule = after_firing(fold(SET), "s-20260101T000010Z", "e")
    assert (schedule.last_instant, schedule.last_task_id) == (at(10), "s-20260101T000010Z")
    settled = after_settling(schedule, "s-20260101T000010Z", at(12))
    assert settled.last_settled_at == at(12)
    assert after_settling(schedule, "s-20260101T000000Z", at(12)) is schedule
    assert after_firing(settled, "s-20260101T000000Z", "e") is settled
    assert after_firing(settled, "s-20260101T000020Z", "e").last_settled_at is None
    assert after_firing(settled, "s-20260101T000020Z", "the rule before") is settled
    assert after_firing(Schedule(name="s"), "s-20260101T000020Z", "e").last_instant is None


@pytest.mark.parametrize(
    ("every_ms", "set_at", "after_s", "comes"),
    [
        (10_000, T0, 0, at(10)),
        (10_000, T0, 9.999, at(10)),
        (10_000, T0, 10, at(20)),
        (10_000, T0, -100, at(10)),
        # Whole seconds where the interval has them, else milliseconds.
        (10_000, T0.replace(microsecond=987_654), 0, at(10)),
        (1_500, T0.replace(microsecond=987_654), 0, at(2.487)),
        (300, T0, 1, at(1.2)),
    ],
)
def test_intervals_count_from_the_set(
    every_ms: int, set_at: datetime, after_s: float, comes: datetime
) -> None:
    schedule = evolve_schedule(Schedule(name="s"), record(1, ruled(every_ms=every_ms), set_at))
    assert next_instant(schedule, at(after_s)) == comes


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"cron": "61 * * * *"},
        {"cron": "* * * * *", "zone": "Mars/Olympus"},
        {"every_ms": 10**18},
    ],
)
def test_a_rule_that_is_not_understood_has_no_instants(rule: dict[str, Any]) -> None:
    assert next_instant(fold(ruled(**rule)), T0) is None
    assert owed(fold(ruled(**rule)), T0, at(10**7)) == []


def test_a_task_that_could_not_stand_in_the_log_has_no_instants() -> None:
    spec = TaskSpec(handler="h", queue="a.b")
    assert (
        next_instant(fold(ScheduleSet(spec=spec, digest="d", every_ms=1_000, **STAMP)), T0) is None
    )
    long = evolve_schedule(Schedule(name="x" * 65), record(1, SET))
    assert next_instant(long, T0) is None


def test_nothing_comes_at_the_end_of_time() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    assert next_instant(fold(ruled(every_ms=1_000)), end) is None
    assert next_instant(fold(ruled(cron="* * * * *")), end) is None
    assert next_instant(Schedule(name="s"), T0) is None


def owed_s(schedule: Schedule, after_s: float, now_s: float) -> list[float]:
    return [(each - T0).total_seconds() for each in owed(schedule, at(after_s), at(now_s))]


@pytest.mark.parametrize(
    ("after_s", "now_s", "owes"),
    [
        (0, 9.999, []),
        (0, 10, [10]),
        (0, 35, [10, 20, 30]),
        (20, 35, [30]),
        # A minute is late, more is missed.
        (0, 70, [10, 20, 30, 40, 50, 60, 70]),
        (0, 70.001, [20, 30, 40, 50, 60, 70]),
        (0, 3_605, [3_550, 3_560, 3_570, 3_580, 3_590, 3_600]),
    ],
)
def test_what_is_late_is_owed(after_s: float, now_s: float, owes: list[float]) -> None:
    assert owed_s(fold(SET), after_s, now_s) == owes


@pytest.mark.parametrize(
    ("now_s", "owes"),
    [
        (3_600, [3_600]),
        (3_660, [3_600]),
        (3_661, [3_600]),
        (7_199, [3_600]),
        (7_200, [7_200]),
        (3_600 * 24 * 365 + 100, [3_600 * 24 * 365]),
    ],
)
def test_of_what_was_missed_the_last_one_is_owed(now_s: float, owes: list[float]) -> None:
    assert owed_s(fold(ruled(every_ms=3_600_000)), 0, now_s) == owes
    assert owed_s(fold(ruled(cron="0 * * * *")), 0, now_s) == owes


def test_no_more_is_looked_at_than_the_limit() -> None:
    assert len(owed(fold(ruled(every_ms=1)), T0, at(50))) == INSTANTS_MAX


@pytest.mark.parametrize("events", [(), (SET, PAUSED), (SET, REMOVED)])
def test_one_that_is_not_active_owes_nothing(events: Any) -> None:
    assert owed(fold(*events), T0, at(100)) == []


def test_with_skip_an_instant_waits_for_the_task_before() -> None:
    schedule = fold(ruled(every_ms=10_000, overlap="skip"))
    assert not is_skipped(schedule, at(10))
    fired = after_firing(schedule, task_id_of("s", at(10)), "e")
    assert is_skipped(fired, at(20))
    settled = after_settling(fired, task_id_of("s", at(10)), at(20.5))
    # Whoever looks at it later finds the same: at the instant it was running.
    assert is_skipped(settled, at(20))
    assert is_skipped(settled, at(20.5))
    assert not is_skipped(settled, at(30))
    assert not is_skipped(after_firing(fold(SET), task_id_of("s", at(10)), "e"), at(20))
    assert not is_skipped(Schedule(name="s"), at(20))


@pytest.mark.parametrize("name", ["", "a b", "a.b", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="schedule"):
        check_name(name)


def test_the_longest_name_leaves_room_for_the_instant() -> None:
    name = check_name("x" * 64)
    assert len(task_id_of(name, at(0.001))) <= 100


@pytest.mark.parametrize(
    ("cron", "every_ms", "zone", "says"),
    [
        (None, None, "UTC", "either cron or every"),
        ("* * * * *", 1_000, "UTC", "either cron or every"),
        (None, 999, "UTC", "every must be at least 1s"),
        ("* * * * *", None, "Mars/Olympus", "zone 'Mars/Olympus'"),
        ("* * * *", None, "UTC", "cron '"),
    ],
)
def test_a_rule_that_is_none_is_refused(
    cron: str | None, every_ms: int | None, zone: str, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_rule(cron, every_ms, zone)


def test_rules_that_are_allowed() -> None:
    check_rule("* * * * *", None, "Europe/Berlin")
    check_rule(None, 1_000, "UTC")
