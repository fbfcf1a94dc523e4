"""A task as the log tells it so far."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from simulation.invariants.messages import Entry

SETTLED: Final = frozenset({"completed", "failed", "cancelled", "expired"})


_NO_SPEC: Final[dict[str, Any]] = {}
NO_ANSWERS: Final[list[dict[str, Any]]] = []
"""Shared, as most tasks ask nothing: neither is ever changed."""


class Story:
    """One task. Changed by `Tasks` alone."""

    __slots__ = (
        "affinity_host",
        "agent_id",
        "answers",
        "attempts",
        "cause",
        "claimed_at_us",
        "digest",
        "due_at_us",
        "end_at_us",
        "end_seq",
        "failures",
        "fence",
        "first_at_us",
        "first_seq",
        "follower",
        "id",
        "is_cancel_asked",
        "lane",
        "last_fence",
        "lease_offer",
        "losses",
        "offer",
        "question",
        "since_us",
        "spec",
        "status",
    )

    def __init__(self, task_id: str) -> None:
        self.id = task_id
        self.status = "absent"
        self.spec = _NO_SPEC
        self.digest: str | None = None
        self.cause: str | None = None
        self.first_seq = 0
        self.first_at_us = 0
        self.since_us = 0
        """When the event came that led to the status."""
        self.due_at_us = 0
        """Before this it must not be offered."""
        self.lane = ("", "")
        self.offer = 0
        """The last `queued` event."""
        self.affinity_host: str | None = None
        """To whose agents alone the last offer goes."""
        self.fence = 0
        """The live claim; 0 without one."""
        self.last_fence = 0
        """The last claim, live or not."""
        self.lease_offer = 0
        self.claimed_at_us = 0
        self.agent_id = ""
        self.attempts = 0
        self.failures = 0
        self.losses = 0
        self.question: dict[str, Any] | None = None
        self.answers = NO_ANSWERS
        self.is_cancel_asked = False
        self.end_seq = 0
        """Its terminal event; 0 while it has none."""
        self.end_at_us = 0
        self.follower: str | None = None
        """Of a completed task that fanned out: its continuation's id, or `barrier <id>` without one."""

    @property
    def is_ended(self) -> bool:
        return self.end_seq > 0

    @property
    def waits_for_tasks(self) -> bool:
        """Held, and never offered yet, because of others."""
        spec = self.spec
        return (
            self.status == "held"
            and not self.offer
            and bool(spec.get("continues") or spec.get("after"))
        )


class Step(NamedTuple):
    """An event of a task that its state allowed."""

    entry: Entry
    story: Story
    """After it."""
    was: str
    """The status before."""
    had_offer: bool
    """It was offered before."""
