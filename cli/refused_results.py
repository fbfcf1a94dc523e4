"""Results that came for a task from workers which no longer held it: refused, and shown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from fleetlog.bus.log import EventLog
from fleetlog.cli.rendering import instant_text
from fleetlog.cli.task_history import AttemptRow
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import WorkerRefused
from fleetlog.schemas.subjects import Subject, format_subject


class RefusedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One result that was refused."""

    attempt: int
    """Of which attempt."""
    fence: int
    """The claim that had been lost."""
    verb: str
    """What it would have been: `completed`, `retried`, …"""
    agent_id: str
    """Who came with it."""
    worker_id: str
    """Which worker."""
    refused_at: datetime
    """When the log stored the refusal."""
    digest: str
    """SHA-256 of the refused event."""


async def refused_results(
    log: EventLog, task_id: str, attempts: Iterable[AttemptRow]
) -> list[RefusedRow]:
    """The refused results of a task, as the workers of its attempts have them in the log."""
    lost = [row for row in attempts if _may_be_stale(row)]
    workers = dict.fromkeys((row.agent_id, row.worker_id) for row in lost)
    return [row for worker in workers for row in await _of_worker(log, task_id, *worker)]


def refused_line(row: RefusedRow) -> str:
    """For people."""
    where = f"{row.agent_id}/{row.worker_id}, at {instant_text(row.refused_at)}"
    return f"{'refused':>10} {row.verb} of attempt {row.attempt}, from {where}: the lease was lost"


def _may_be_stale(row: AttemptRow) -> bool:
    # Only what someone else ended can come back: a holder that ended its attempt has nothing more to say.
    return row.outcome in ("lost", "cancelled") or row.error_class in ("lost", "expired")


async def _of_worker(
    log: EventLog, task_id: str, agent_id: str, worker_id: str
) -> list[RefusedRow]:
    subject = format_subject(Subject(log.fleet, "worker", agent_id, "refused", worker_id=worker_id))
    return [
        RefusedRow(
            attempt=record.event.attempt,
            fence=record.event.fence,
            verb=record.event.verb,
            agent_id=agent_id,
            worker_id=worker_id,
            refused_at=record.stored_at,
            digest=record.event.digest,
        )
        for record in map(open_stored, await log.read_thing(subject))
        if isinstance(record.event, WorkerRefused) and record.event.task_id == task_id
    ]
