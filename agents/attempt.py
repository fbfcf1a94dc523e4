"""One attempt at a task, as the agent that makes it knows it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from datetime import datetime, timedelta
from pathlib import Path

from fleetlog.agents.artifacts import NAMED_MAX
from fleetlog.agents.endings import Why
from fleetlog.agents.frames import ArtifactNamed, Run
from fleetlog.agents.slots import Slot
from fleetlog.agents.worktrees.records import Tree
from fleetlog.bus.core import Task
from fleetlog.bus.offers import Offer


class Attempt:
    """One attempt that this agent holds or is about to claim."""

    __slots__ = (
        *(
            "ack_subject",
            "children",
            "gathers",
            "ends_at",
            "is_running",
            "kill",
            "named",
            "offer",
            "preparing",
            "silence_s",
            "slot",
            "task",
        ),
        *("drop_count", "spawns", "touched_at", "tree", "why"),
    )

    def __init__(self, offer: Offer, slot: Slot) -> None:
        self.offer = offer
        self.slot = slot
        self.ack_subject = offer.ack_subject
        self.task: Task | None = None
        self.drop_count = 0
        self.why: Why | None = None
        self.is_running = False
        self.preparing: asyncio.Timeout | None = None
        self.tree: Tree | None = None
        self.named: deque[ArtifactNamed] = deque(maxlen=NAMED_MAX)
        self.ends_at = math.inf
        self.touched_at = 0.0
        self.silence_s = math.inf
        self.kill: asyncio.TimerHandle | None = None
        self.children: Path | None = None
        self.gathers: set[asyncio.Future[None]] = set()
        self.spawns: set[asyncio.Future[None]] = set()

    @property
    def fence(self) -> int:
        """Of our lease; 0 before the claim."""
        return self.task.lease.fence if self.task is not None and self.task.lease is not None else 0

    @property
    def is_watched(self) -> bool:
        """Its time may run out."""
        return self.is_running and self.why is None

    @property
    def silent_at(self) -> float:
        """When it will have been silent for too long; never while it waits for other tasks."""
        return math.inf if self.gathers else self.touched_at + self.silence_s


def run_of(task: Task, deadline: datetime | None) -> Run:
    """What its worker is told."""
    assert task.spec is not None
    assert task.lease is not None
    return Run(
        run_id=task.lease.fence,
        task_id=task.id,
        attempt=task.lease.attempt,
        fence=task.lease.fence,
        executor=task.spec.executor,
        handler=task.spec.handler,
        args=bytes(task.spec.args),
        deadline=deadline,
        labels=task.spec.labels,
        parent_id=task.spec.parent_id,
        session_id=task.session_id,
        answers=task.answers,
    )


def deadline_of(task: Task) -> datetime | None:
    """When the attempt's time is up, or the task's, whichever is first."""
    assert task.spec is not None
    assert task.lease is not None
    ends = []
    if task.spec.timeout_ms is not None:
        ends.append(task.lease.claimed_at + timedelta(milliseconds=task.spec.timeout_ms))
    if task.spec.expires_ms is not None and task.submitted_at is not None:
        ends.append(task.submitted_at + timedelta(milliseconds=task.spec.expires_ms))
    return min(ends, default=None)
