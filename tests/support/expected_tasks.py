"""What the pure core makes of one task's messages, as the rows that a projection must show of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fleetlog.bus.core import Task, evolve, permits
from fleetlog.schemas.envelope import Recorded, Stored, open_stored
from fleetlog.schemas.events import TaskClaimed, type_of


class Expected(msgspec.Struct):
    """One task, and what its state alone does not tell."""

    task: Task
    queued_at: datetime | None = None
    started_at: datetime | None = None
    attempts: list[dict[str, Any]] = []
    not_permitted: set[int] = set()
    offered_at: datetime | None = None
    """Of the last offer."""

    def take(self, record: Recorded) -> None:
        """Its next event."""
        before, after = self.task, evolve(self.task, record)
        if not permits(before, record.event):
            self.not_permitted.add(record.seq)
        if before.lease is not None and before.lease != after.lease:
            _end(self.attempts[-1], record)
        if after.offer == record.seq:
            self.offered_at = record.stored_at
            self.queued_at = self.queued_at or self.offered_at
        if after.lease is not None and after.lease.fence == record.seq:
            self.started_at = self.started_at or record.stored_at
            self.attempts.append(_begin(after, self.offered_at))
        self.task = after


def fold(task_id: str, messages: list[Stored]) -> Expected:
    """What all messages make of one task."""
    expected = Expected(Task(id=task_id))
    for record in map(open_stored, messages):
        if record.subject is None or (record.subject.kind, record.subject.id) != ("task", task_id):
            continue
        expected.take(record)
    return expected


def task_row(expected: Expected) -> dict[str, Any] | None:
    """Its row in the view `tasks`; None: it has none."""
    task, spec, outcome = expected.task, expected.task.spec, expected.task.outcome
    if task.status == "absent":
        return None
    result, result_ref = getattr(outcome, "result", None), getattr(outcome, "result_ref", None)
    args_ref = spec.args_ref if spec else None
    return {
        "state": task.status,
        "attempts": task.attempts,
        "failures": task.failures,
        "losses": task.losses,
        "submitted_at": task.submitted_at,
        "queued_at": expected.queued_at,
        "started_at": expected.started_at,
        "settled_at": task.since if task.is_settled else None,
        "due_at": task.due_at,
        "question": task.question.text if task.question else None,
        "choices": list(task.question.choices) if task.question else None,
        "asked_at": task.since if task.question else None,
        "is_cancel_requested": task.is_cancel_requested,
        "digest": task.digest,
        "handler": spec.handler if spec else None,
        "executor": spec.executor if spec else None,
        "args": bytes(spec.args).decode() if spec and args_ref is None else None,
        "args_size": args_ref.size if args_ref else None,
        "args_sha256": args_ref.sha256 if args_ref else None,
        "labels": spec.labels if spec else None,
        "key": spec.key if spec else None,
        "max_attempts": spec.max_attempts if spec else None,
        "timeout_ms": spec.timeout_ms if spec else None,
        "parent_id": spec.parent_id if spec else None,
        "barrier_id": spec.barrier_id if spec else None,
        "continues": spec.continues if spec else None,
        "after": list(spec.after) if spec else None,
        "limits": list(spec.limits) if spec else None,
        "budgets": list(spec.budget_keys(task.id)) if spec else None,
        "fair_key": spec.fair_key if spec else None,
        "schedule": spec.schedule if spec else None,
        "requires": spec.requires if spec else None,
        "affinity": spec.affinity if spec else None,
        "result": None if result is None or result_ref else bytes(result).decode(),
        "result_size": result_ref.size if result_ref else None,
        "result_sha256": result_ref.sha256 if result_ref else None,
        "error_class": getattr(outcome, "error_class", None),
        "error": getattr(outcome, "error", None),
        "expired_limit": getattr(outcome, "limit", None),
    }


def _begin(task: Task, offered_at: datetime | None) -> dict[str, Any]:
    assert task.lease is not None
    lease = task.lease
    return {
        "attempt": lease.attempt,
        "fence": lease.fence,
        "offer": lease.offer,
        "host": lease.host,
        "agent_id": lease.agent_id,
        "worker_id": lease.worker_id,
        "queued_at": offered_at,
        "claimed_at": lease.claimed_at,
        "ended_at": None,
        "outcome": None,
        "error_class": None,
        "ran_ms": None,
    }


def _end(attempt: dict[str, Any], record: Recorded) -> None:
    is_taken_over = isinstance(record.event, TaskClaimed)
    verb = type_of(record.event).rpartition(".")[2]  # type: ignore[arg-type] # it was permitted
    attempt["ended_at"] = record.stored_at
    attempt["outcome"] = "lost" if is_taken_over else verb
    attempt["error_class"] = "lost" if is_taken_over else getattr(record.event, "error_class", None)
    attempt["ran_ms"] = getattr(record.event, "ran_ms", None)
