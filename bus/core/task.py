"""A task as its events tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from fleetlog.schemas.events import TerminalEvent
from fleetlog.schemas.questions import Answer, Question
from fleetlog.schemas.specs import TaskSpec

Status = Literal[
    "absent", "held", "queued", "claimed", "waiting", "completed", "failed", "cancelled", "expired"
]
"""`absent` is a task without events; the last four are final."""

SETTLED: Final[frozenset[Status]] = frozenset({"completed", "failed", "cancelled", "expired"})

LOSSES_MAX: Final = 3
"""A task that went down with its agent so often has failed: it may be what kills them."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The live claim of a task."""

    fence: int
    """Log sequence of the `claimed` event."""
    offer: int
    """Log sequence of the `queued` event it took."""
    attempt: int
    """1 for the first claim of the task."""
    agent_id: str
    """The holder."""
    worker_id: str
    """The holder's worker."""
    host: str
    """The holder's host."""
    claimed_at: datetime
    """When the log stored the claim."""
    ack: str | None = None
    """The ack subject of the holder's delivery."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a task after `version`. Made by `evolve` alone."""

    id: str
    """The task's id."""
    status: Status = "absent"
    """Where it is in its life."""
    version: int = 0
    """Log sequence of its last event: what the next append must state."""
    spec: TaskSpec | None = None
    """None while absent, and for a settled task whose history was trimmed."""
    digest: str | None = None
    """Payload digest of the spec."""
    submitted_at: datetime | None = None
    """When the log stored its first event."""
    offer: int = 0
    """Log sequence of the last `queued`; 0 before the first."""
    host: str | None = None
    """The host to whose agents alone the last `queued` offers it; None: to any."""
    since: datetime | None = None
    """When the log stored the event that led to `status`."""
    due_at: datetime | None = None
    """When a held or waiting task may be queued."""
    lease: Lease | None = None
    """The live claim, while claimed."""
    attempts: int = 0
    """Claims so far."""
    failures: int = 0
    """Attempts that counted so far."""
    losses: int = 0
    """Attempts that ended with their agent so far."""
    session_id: str | None = None
    """The last session of an agent CLI that worked on it."""
    question: Question | None = None
    """What it asks, while it waits for the answer; it is due at no time then."""
    asked: int = 0
    """Log sequence of the event that asks it; 0 while nothing is asked."""
    answers: tuple[Answer, ...] = ()
    """What it asked so far, and was answered."""
    is_cancel_requested: bool = False
    """Someone asked to end it while it ran."""
    cancel_reason: str | None = None
    """Why, in the words of who asked."""
    outcome: TerminalEvent | None = None
    """The terminal event, once settled."""

    @property
    def waits_for_tasks(self) -> bool:
        """It is held until other tasks have settled; once they have, it never is again."""
        return (
            self.status == "held"
            and self.offer == 0
            and self.spec is not None
            and self.spec.waits_for_tasks
        )

    @property
    def needs_admission(self) -> bool:
        """It runs only when the coordinator lets it in: after its first event, and again for each attempt."""
        return self.spec is not None and self.spec.needs_admission

    @property
    def budget_keys(self) -> tuple[str, ...]:
        """The budgets that what it uses counts on."""
        return self.spec.budget_keys(self.id) if self.spec is not None else ()

    @property
    def moves_at(self) -> datetime | None:
        """When a task that is offered to one host alone is offered to all; None for any other."""
        if self.status != "queued" or self.host is None or self.spec is None or self.since is None:
            return None
        return instant_after(self.since, self.spec.affinity_ms)

    @property
    def is_settled(self) -> bool:
        """No event can change it any more."""
        return self.status in SETTLED


_FAR_FUTURE: Final = datetime.max.replace(tzinfo=UTC)


def instant_after(start: datetime, ms: int) -> datetime:
    """`start` and `ms` later; the end of time where a foreign writer's numbers reach beyond it."""
    try:
        return start + timedelta(milliseconds=max(ms, 0))
    except OverflowError:
        return _FAR_FUTURE
