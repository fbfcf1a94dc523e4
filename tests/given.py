"""The words of the tests of a task's life: instants, specs, events as a writer appended them, and commands.

Imported as `from tests.given import ...`, which pytest's importlib mode resolves from any working directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fleetlog.bus.core import (
    Claim,
    Complete,
    Fail,
    Queue,
    RequestCancel,
    Return,
    Submit,
    Task,
    evolve,
)
from fleetlog.bus.core.commands import Cancel, Expire
from fleetlog.schemas.envelope import Recorded, UnknownEvent
from fleetlog.schemas.events import (
    AnyEvent,
    Event,
    TaskCancelled,
    TaskCancelRequested,
    TaskClaimed,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskHeld,
    TaskQueued,
    TaskRetried,
    TaskReturned,
)
from fleetlog.schemas.specs import TaskSpec, payload_digest

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NULL = msgspec.Raw(b"null")


def at(seconds: float) -> datetime:
    """So many seconds after the first event of the log."""
    return T0 + timedelta(seconds=seconds)


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec(**{"handler": "greet", **fields})


def record(seq: int, event: AnyEvent | UnknownEvent, stored_at: datetime | None = None) -> Recorded:
    """The event at its place; event n of the log is stored n seconds after the first unless said otherwise."""
    return Recorded(seq, stored_at or at(seq - 1), None, event)


def fold(*events: AnyEvent | UnknownEvent | Recorded) -> Task:
    """The task after these events, which stand in the log from sequence 1 without a gap."""
    return fold_records(
        event if isinstance(event, Recorded) else record(seq, event)
        for seq, event in enumerate(events, 1)
    )


def fold_records(records: Iterable[Recorded]) -> Task:
    task = Task(id="t1")
    for item in records:
        task = evolve(task, item)
    return task


def held(delay_ms: int = 5_000, **rules: Any) -> TaskHeld:
    whole = spec(delay_ms=delay_ms, **rules)
    return _event(TaskHeld, spec=whole, digest=payload_digest(whole))


def queued(*, progress: dict[str, Any] | None = None, **rules: Any) -> TaskQueued:
    whole = spec(**rules)
    return _event(TaskQueued, spec=whole, digest=payload_digest(whole), **(progress or {}))


def claimed(offer: int = 1, attempt: int = 1, agent: str = "a1", **fields: Any) -> TaskClaimed:
    place = {"agent_id": agent, "worker_id": "w1", "host": "h1"}
    return _event(TaskClaimed, **place, attempt=attempt, offer=offer, **fields)


def retried(fence: int, attempts: int = 1, delay_ms: int = 1_000) -> TaskRetried:
    return _ended(TaskRetried, fence, attempts, error_class="error", error="no", delay_ms=delay_ms)


def returned(
    fence: int, attempts: int = 1, error_class: str = "lost", delay_ms: int = 0
) -> TaskReturned:
    why = {"error_class": error_class, "error": "gone"}
    return _ended(TaskReturned, fence, attempts, **why, delay_ms=delay_ms)


def completed(fence: int | None, attempts: int = 1, **fields: Any) -> TaskCompleted:
    return _ended(TaskCompleted, fence, attempts, **fields)


def failed(fence: int | None, attempts: int = 1, **fields: Any) -> TaskFailed:
    return _ended(TaskFailed, fence, attempts, **{"error_class": "error", "error": "no", **fields})


def cancelled(fence: int | None = None, attempts: int = 0, **fields: Any) -> TaskCancelled:
    return _ended(TaskCancelled, fence, attempts, **fields)


def expired(fence: int | None = None, attempts: int = 0, **fields: Any) -> TaskExpired:
    return _ended(TaskExpired, fence, attempts, limit="expires", **fields)


def cancel_requested(reason: str | None = None) -> TaskCancelRequested:
    return _event(TaskCancelRequested, reason=reason)


def _event(kind: type[Event], **fields: Any) -> Any:
    return kind(id="e", occurred_at=T0, **fields)


def _ended(kind: type[Event], fence: int | None, attempts: int, **fields: Any) -> Any:
    return _event(kind, fence=fence, attempts=attempts, **fields)


def submit(**rules: Any) -> Submit:
    whole = spec(**rules)
    return Submit(id="c", spec=whole, digest=payload_digest(whole))


def queue() -> Queue:
    return Queue(id="c")


def claim(offer: int = 1, agent: str = "a9", *, over: int | None = None) -> Claim:
    return Claim(
        id="c",
        offer=offer,
        agent_id=agent,
        worker_id="w9",
        host="h9",
        ack="ack.9",
        over=over,
    )


def complete(fence: int, result: bytes = b"42") -> Complete:
    return Complete(id="c", fence=fence, result=msgspec.Raw(result))


def fail(fence: int, *, jitter: float = 0.5, **fields: Any) -> Fail:
    return Fail(id="c", fence=fence, error_class="error", error="boom", jitter=jitter, **fields)


def give_back(fence: int, error_class: str = "drained", delay_ms: int = 0) -> Return:
    return Return(id="c", fence=fence, error_class=error_class, error="bye", delay_ms=delay_ms)


def request_cancel() -> RequestCancel:
    return RequestCancel(id="c")


def cancel(fence: int) -> Cancel:
    return Cancel(id="c", fence=fence)


def expire() -> Expire:
    return Expire(id="c")
