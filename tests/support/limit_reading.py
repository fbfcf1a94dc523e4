"""What the log says of limits, budgets and turns, read without anything of the code that keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import (
    AttemptEnd,
    LimitAdmitted,
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
