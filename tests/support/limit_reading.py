"""What the log says of limits, budgets and turns, read without anything of the code that keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import (
    AttemptEnd,
    LimitAdmitted,
    LimitSet,
    TaskClaimed,
    TaskHeld,
    TaskQueued,
)


def most_at_once(records: Iterable[Recorded], key: str) -> tuple[int, int]:
    """How many tasks under a limit were offered or ran at once at most, and how many at the end."""
    under: set[str] = set()
    active: set[str] = set()
    most = 0
    for record in records:
        if record.subject is None or record.subject.kind != "task":
            continue
        task_id, event = record.subject.id, record.event
        if isinstance(event, TaskHeld | TaskQueued) and key in event.spec.limits:
            under.add(task_id)
        if isinstance(event, TaskQueued | TaskClaimed) and task_id in under:
            active.add(task_id)
        elif isinstance(event, TaskHeld | AttemptEnd):
            active.discard(task_id)
        most = max(most, len(active))
    return most, len(active)


def starts_under(records: Iterable[Recorded], key: str) -> list[datetime]:
    """When each task was let in under a limit."""
    return [
        record.stored_at
        for record in records
        if isinstance(record.event, LimitAdmitted) and record.event.key == key
        for _ in record.event.tasks
    ]


def most_in(starts: list[datetime], window: timedelta) -> int:
    """The most starts in any time of this length."""
    return max(
        (sum(first <= each < first + window for each in starts) for first in starts), default=0
    )


def check_limits(records: Iterable[Recorded]) -> None:
    """At no admission are there more under a limit than it lets, nor more starts than its bucket holds."""
    settings: dict[str, LimitSet] = {}
    buckets: dict[str, tuple[float, datetime]] = {}
    limits_of: dict[str, tuple[str, ...]] = {}
    active: set[str] = set()
    for record in records:
        event, thing = record.event, record.subject
        assert thing is not None
        if isinstance(event, TaskHeld | TaskQueued):
            limits_of[thing.id] = event.spec.limits
        if isinstance(event, TaskQueued | TaskClaimed):
            active.add(thing.id)
        elif isinstance(event, TaskHeld | AttemptEnd):
            active.discard(thing.id)
        elif isinstance(event, LimitSet):
            settings[event.key] = event
        elif isinstance(event, LimitAdmitted):
            setting = settings.get(event.key)
            assert all(each in active for each in event.tasks), "its offers stand beside it"
            if setting is not None and setting.concurrency is not None:
                under = [each for each in active if event.key in limits_of[each]]
                assert len(under) <= setting.concurrency, (record.seq, under)
            if setting is not None and setting.rate is not None:
                _pour(buckets, setting, event, record.stored_at)
        if isinstance(event, LimitSet):
            # However full the bucket was, a new setting begins no fuller than its own size.
            buckets.pop(event.key, None)


def _pour(
    buckets: dict[str, tuple[float, datetime]],
    setting: LimitSet,
    event: LimitAdmitted,
    at: datetime,
) -> None:
    assert setting.rate is not None
    size = float(setting.burst or setting.rate)
    level, then = buckets.get(event.key, (size, at))
    level = min(size, level + (at - then) / timedelta(milliseconds=setting.per_ms) * setting.rate)
    level -= len(event.tasks)
    assert level > -0.001, (event, level)
    buckets[event.key] = (level, at)
