"""The end of a run after which nothing moved any more: what was accepted has settled."""

from __future__ import annotations

from collections.abc import Callable

from simulation.invariants.barriers import Barriers
from simulation.invariants.messages import Report
from simulation.invariants.outcomes import Barrier
from simulation.invariants.story import Story


class Quiet:
    """Judges liveness.

    Args:
        report: where violations go.
        seq: the last event.
        at_us: when the run ended.
        stories: all tasks.
        barriers: all barriers.
        is_allowed: whether a task may be open at the end, by its id.
    """

    def __init__(
        self,
        report: Report,
        seq: int,
        at_us: int,
        stories: dict[str, Story],
        barriers: Barriers,
        is_allowed: Callable[[str], bool],
    ) -> None:
        self._report = report
        self._seq = seq
        self._at_us = at_us
        self._stories = stories
        self._barriers = barriers
        self._of_task = barriers.outcomes.of_task
        self._is_allowed = is_allowed

    def judge(self) -> None:
        """All of it."""
        for story in self._stories.values():
            if not story.is_ended and not self._may_wait(story):
                text = f"task {story.id}, first seen at {story.first_seq}, is still {story.status}"
                self._report("end.settled", self._seq, text)
        for barrier in self._barriers.barriers.values():
            if barrier.end_seq:
                self._check_ended(barrier)
            elif not self._may_stay_open(barrier):
                text = f"barrier {barrier.id}, opened at {barrier.opened}, has not ended"
                self._report("end.barrier", self._seq, text)

    def _may_wait(self, story: Story) -> bool:
        """It is allowed to, or waits for what is."""
        if self._is_allowed(story.id):
            return True
        # A straggler that goes on: only its barrier would have ended it.
        barrier_id = story.spec.get("barrier_id")
        is_bereft = barrier_id is not None and self._barriers.is_lost(barrier_id)
        if story.status == "claimed" and is_bereft:
            return True
        if not story.waits_for_tasks:
            return False
        continued = story.spec.get("continues")
        if continued is not None:
            barrier = self._barriers.barriers.get(continued)
            return barrier is not None and not barrier.end_seq and self._may_stay_open(barrier)
        found = [self._of_task(each) for each in story.spec.get("after", ())]
        return None in found and all(each is None or each.is_success for each in found)

    def _may_stay_open(self, barrier: Barrier) -> bool:
        """Some of its members are open, and what its policy says depends on them."""
        if self._is_unwanted(barrier) or barrier.is_late(self._at_us):
            return False
        if barrier.members is None:
            return True
        found = [self._of_task(each) for each in barrier.members]
        open_count = found.count(None)
        missing = sum(
            self._barriers.outcomes.is_missing(each, barrier)
            for each, outcome in zip(barrier.members, found, strict=True)
            if outcome is None
        )
        open_count -= missing
        succeeded = sum(each is not None and each.is_success for each in found)
        if barrier.policy == "settled":
            return open_count > 0
        return succeeded < barrier.needed <= succeeded + open_count

    def _is_unwanted(self, barrier: Barrier) -> bool:
        """Nobody waits for it any more."""
        waiting = [each for each in (barrier.parent_id, barrier.then_id) if each is not None]
        stories = [self._stories.get(each) for each in waiting]
        return barrier.is_unwanted or any(each is not None and each.is_ended for each in stories)

    def _check_ended(self, barrier: Barrier) -> None:
        then = self._stories.get(barrier.then_id) if barrier.then_id else None
        if barrier.then_id is not None and then is None:
            text = f"continuation {barrier.then_id} of barrier {barrier.id} was never made"
            self._report("barrier.continuation", self._seq, text)
        if barrier.members is None or "members are not known" in barrier.error:
            return
        for task_id, spec in barrier.members.items():
            story = self._stories.get(task_id)
            if story is None:
                if spec is not None and not barrier.is_cancelling:
                    text = f"member {task_id} of barrier {barrier.id} was never made"
                    self._report("barrier.members", self._seq, text)
                continue
            is_own = story.spec.get("barrier_id") == barrier.id
            if is_own and barrier.is_cancelling and self._of_task(task_id) is None:
                text = f"member {task_id} goes on though barrier {barrier.id} ended it"
                self._report("barrier.stragglers", self._seq, text)
