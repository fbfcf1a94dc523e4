"""Schedules that are quicker than people may set them, and what they made."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from fleetlog.bus.core.schedule import instant_of
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import entry
from fleetlog.schemas.events import ScheduleSet
from fleetlog.schemas.specs import TaskSpec, payload_digest
from fleetlog.schemas.subjects import Subject
from support.fleets import history


async def set_quickly(fleet: Fleet, name: str, every_ms: int, **rule: Any) -> None:
    """Writes the event itself: the command takes no interval below a second."""
    spec = TaskSpec(handler="h", queue="nobody")
    event = ScheduleSet(
        id=fleet.system.new_id(),
        occurred_at=fleet.log.now(),
        spec=spec,
        digest=payload_digest(spec),
        every_ms=every_ms,
        **rule,
    )
    await fleet.log.append(entry(Subject(fleet.name, "schedule", name, "set"), 0, event))


async def made(fleet: Fleet, name: str) -> Counter[datetime]:
    """How many tasks the log has of each instant."""
    found: Counter[datetime] = Counter()
    for record in await history(fleet, types=("TaskQueued",)):
        assert record.subject is not None
        if (instant := instant_of(name, record.subject.id)) is not None:
            found[instant] += 1
    return found
