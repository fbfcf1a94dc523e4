"""Barriers as the log tells them, and the outcomes of tasks through all that they lead to."""

from __future__ import annotations

from typing import Any, NamedTuple

from simulation.invariants.story import Story


class Outcome(NamedTuple):
    """What settled a task for good."""

    seq: int
    at_us: int
    is_success: bool


class Barrier:
    """One barrier. Changed by `Barriers` alone."""

    def __init__(self, barrier_id: str, plan: dict[str, Any], opened: int, at_us: int) -> None:
        then = plan.get("then")
        self.id = barrier_id
        self.opened = opened
        self.opened_at_us = at_us
        self.count: int = plan["count"]
        self.policy: str = plan.get("policy", "settled")
        self.quorum: int = plan.get("quorum") or 1
        self.stragglers: str = plan.get("stragglers", "cancel")
        self.deadline_ms: int | None = plan.get("deadline_ms")
        self.then_id: str | None = then["task_id"] if then else None
        self.then_spec: dict[str, Any] | None = then.get("spec") if then else None
        self.members: dict[str, dict[str, Any] | None] | None = None
        """Ids and specs, without one where the task was there before; None: nobody here knows them."""
        self.parent_id: str | None = None
        self.is_unwanted = False
        """The task that opened it by its completion had been asked to end."""
        self.end_seq = 0
        self.end_at_us = 0
        self.end_verb = ""
        self.why = ""
        self.error = ""

    @property
    def needed(self) -> int:
        """How many have to complete."""
        return {"settled": 0, "all": self.count, "any": 1}.get(self.policy, self.quorum)

    @property
    def is_cancelling(self) -> bool:
        """Whether what it made ends with it."""
        return self.stragglers == "cancel" or self.why in ("cancelled", "parent")

    @property
    def deadline_at_us(self) -> int:
        return self.opened_at_us + (self.deadline_ms or 0) * 1000

    def is_late(self, at_us: int) -> bool:
        """Whether its deadline has passed."""
        return self.deadline_ms is not None and at_us >= self.deadline_at_us


class Outcomes:
    """Follows tasks to what settled them.

    Args:
        stories: all tasks; kept by the caller.
    """

    def __init__(self, stories: dict[str, Story]) -> None:
        self._stories = stories
        self.barriers: dict[str, Barrier] = {}

    def of_task(self, task_id: str) -> Outcome | None:
        """The outcome of a task, or of the last continuation that it led to; None while there is none."""
        while True:
            story = self._stories.get(task_id)
            if story is None or not story.is_ended:
                return None
            if story.follower is None:
                return Outcome(story.end_seq, story.end_at_us, story.status == "completed")
            kind, _, barrier_id = story.follower.rpartition(" ")
            if kind == "barrier":
                return self._of_barrier(barrier_id)
            task_id = story.follower

    def is_missing(self, task_id: str, barrier: Barrier) -> bool:
        """Whether a member that was to be there already was not when the barrier looked for it."""
        story = self._stories.get(task_id)
        is_named_alone = barrier.members is not None and barrier.members.get(task_id) is None
        return is_named_alone and (story is None or story.first_seq > barrier.opened)

    def _of_barrier(self, barrier_id: str) -> Outcome | None:
        barrier = self.barriers.get(barrier_id)
        if barrier is None or not barrier.end_seq:
            return None
        return Outcome(barrier.end_seq, barrier.end_at_us, barrier.end_verb == "released")
