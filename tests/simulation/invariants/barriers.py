"""Barriers: what opens them, what ends them, and what follows their end."""

from __future__ import annotations

from typing import Any

from simulation.invariants.messages import Entry, Report, Tolerance
from simulation.invariants.names import is_revival_of
from simulation.invariants.outcomes import Barrier, Outcomes
from simulation.invariants.plans import Plans
from simulation.invariants.story import Step, Story


class Barriers:
    """All barriers, and the tasks that wait for others.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
        stories: all tasks; kept by the caller.
        plans: reads what fan-outs name.
    """

    def __init__(
        self, report: Report, tolerance: Tolerance, stories: dict[str, Story], plans: Plans
    ) -> None:
        self._report = report
        self._skew_us = tolerance.skew_ms * 1000
        self._bereft = tolerance.bereft
        self._stories = stories
        self._plans = plans
        self.outcomes = Outcomes(stories)
        self.barriers = self.outcomes.barriers

    def take_step(self, step: Step) -> None:
        """An event of a task."""
        entry, story, was = step[:3]
        spec = story.spec
        if was == "absent" and (spec.get("barrier_id") or spec.get("continues")):
            self._check_belongs(entry, story)
        if entry.verb == "completed" and story.follower is not None:
            is_unwanted = story.is_cancel_asked
            self._open(entry, entry.event["fan_out"], None, is_unwanted=is_unwanted)
        if not (spec.get("continues") or spec.get("after")):
            return
        if story.status == "queued" and was in ("absent", "held") and not step.had_offer:
            self._check_gate(entry, story)
        elif story.status == "failed" and entry.event.get("fence") is None:
            self._check_given_up(entry, story)

    def take(self, entry: Entry) -> None:
        """An event of a barrier."""
        event, verb, seq = entry.event, entry.verb, entry.seq
        if verb == "opened":
            self._open(entry, event["fan_out"], event.get("parent_id"), is_unwanted=False)
            return
        barrier = self.barriers.get(entry.id)
        if barrier is None:
            if entry.id not in self._bereft:
                text = f"{seq} ends barrier {entry.id}, never opened"
                self._report("barrier.one_ending", seq, text)
        elif barrier.end_seq:
            text = f"barrier {entry.id} ended at {barrier.end_seq}, and is {verb} again at {seq}"
            self._report("barrier.one_ending", seq, text)
        else:
            if verb == "released":
                self._take_released(entry, barrier)
            else:
                self._take_abandoned(entry, barrier)
            barrier.end_seq, barrier.end_at_us = seq, entry.at_us
            barrier.end_verb, barrier.why = verb, event.get("why", "")
            barrier.error = event.get("error", "")

    def _open(
        self, entry: Entry, plan: dict[str, Any], parent_id: str | None, *, is_unwanted: bool
    ) -> None:
        if entry.id in self.barriers:
            text = f"barrier {entry.id} is opened again at {entry.seq}"
            self._report("barrier.plan", entry.seq, text)
            return
        barrier = Barrier(entry.id, plan, entry.seq, entry.at_us)
        barrier.parent_id, barrier.is_unwanted = parent_id, is_unwanted
        barrier.members = self._plans.members(entry, plan)
        self.barriers[entry.id] = barrier

    def is_lost(self, barrier_id: str) -> bool:
        """The log has lost what opened it."""
        return barrier_id in self._bereft and barrier_id not in self.barriers

    def _check_belongs(self, entry: Entry, story: Story) -> None:
        """A member or a continuation is one that its barrier names, or the revival of such a one."""
        spec, seq = story.spec, entry.seq
        dead = self._stories.get(story.cause) if story.cause else None
        is_revived = dead is not None and is_revival_of(story.id, dead.id)
        continues, barrier_id = spec.get("continues"), spec.get("barrier_id")
        if continues is not None and not is_revived:
            barrier = self.barriers.get(continues)
            if self.is_lost(continues):
                pass
            elif barrier is None or barrier.then_id != story.id:
                text = f"task {story.id} continues {continues}, which does not name it, at {seq}"
                self._report("barrier.continuation", seq, text)
            elif spec != barrier.then_spec:
                text = f"continuation {story.id} of {continues} is not as it was named"
                self._report("barrier.continuation", seq, text)
        if barrier_id is not None and not is_revived:
            if self.is_lost(barrier_id):
                return
            barrier = self.barriers.get(barrier_id)
            if barrier is not None and barrier.members is None:
                return
            named = barrier.members.get(story.id) if barrier and barrier.members else None
            if named != spec:
                text = f"task {story.id} is not as fan-out {barrier_id} names it, or not at all"
                self._report("barrier.members", seq, text)

    def _take_released(self, entry: Entry, barrier: Barrier) -> None:
        event, seq = entry.event, entry.seq
        if barrier.is_unwanted:
            text = f"barrier {barrier.id} is released at {seq} though its task was asked to end"
            self._report("cancel.tree", seq, text)
        count = barrier.count
        if event.get("opened") != barrier.opened or event.get("expected") != count:
            text = (
                f"{seq} releases barrier {barrier.id}, opened at {event.get('opened')} with"
                f" {event.get('expected')} members; it is {barrier.opened} with {count}"
            )
            self._report("barrier.outcomes", seq, text)
        told = self._plans.outcomes(event)
        settled, succeeded = event.get("settled", 0), event.get("succeeded", 0)
        if told is not None and barrier.members is not None:
            settled, succeeded = self._check_outcomes(entry, barrier, told)
        is_late = barrier.is_late(entry.at_us + self._skew_us)
        is_enough = succeeded >= barrier.needed
        if barrier.policy == "settled" and settled < count:
            is_enough = is_late
            if is_late and told is not None and barrier.members is not None:
                self._check_open_at_deadline(entry, barrier, told)
        if not is_enough:
            text = (
                f"barrier {barrier.id} is released at {seq} with {settled} of {count} settled and"
                f" {succeeded} completed, too early for {barrier.policy}"
            )
            self._report("barrier.policy", seq, text)

    def _check_outcomes(self, entry: Entry, barrier: Barrier, told: list[int]) -> tuple[int, int]:
        """Settled and succeeded, as the log has it for the members that the release counts."""
        event, seq = entry.event, entry.seq
        members = list(barrier.members or ())
        settled = succeeded = 0
        wrong: list[str] = [] if len(told) == len(members) else [f"{len(told)} outcomes"]
        for task_id, outcome_seq in zip(members, told, strict=False):
            outcome = self.outcomes.of_task(task_id)
            if outcome_seq == 0:
                # One that was named by its id and was never there has failed, with no event.
                settled += self.outcomes.is_missing(task_id, barrier)
            elif outcome is None or outcome.seq != outcome_seq or outcome_seq >= seq:
                wrong.append(f"{outcome_seq} for {task_id}")
            else:
                settled += 1
                succeeded += outcome.is_success
        nonzero = sum(map(bool, told))
        if not nonzero <= event.get("settled", 0) <= settled and not wrong:
            wrong.append(f"{event.get('settled')} settled")
        if event.get("succeeded", 0) != succeeded and not wrong:
            wrong.append(f"{event.get('succeeded')} completed")
        if wrong:
            text = f"barrier {barrier.id} is released at {seq} with {', '.join(wrong)}; the log differs"
            self._report("barrier.outcomes", seq, text)
        return settled, succeeded

    def _check_open_at_deadline(self, entry: Entry, barrier: Barrier, told: list[int]) -> None:
        """What a late release leaves open is no work of its own, nor had it ended in time."""
        for (task_id, spec), outcome_seq in zip(
            (barrier.members or {}).items(), told, strict=False
        ):
            if outcome_seq:
                continue
            story = self._stories.get(task_id)
            is_own = story is None or story.spec.get("barrier_id") == barrier.id
            in_time_us = barrier.deadline_at_us - self._skew_us
            outcome = self.outcomes.of_task(task_id)
            has_ended = outcome is not None and outcome.at_us < in_time_us
            if (is_own and spec is not None) or has_ended:
                text = f"barrier {barrier.id} is released late at {entry.seq}, and leaves {task_id} out"
                self._report("barrier.outcomes", entry.seq, text)

    def _take_abandoned(self, entry: Entry, barrier: Barrier) -> None:
        why, seq = entry.event.get("why"), entry.seq
        if why == "parent":
            parent = self._stories.get(barrier.parent_id or "")
            if barrier.parent_id is None or (parent is not None and not parent.is_ended):
                text = f"barrier {barrier.id} is abandoned at {seq}, but its parent is open"
                self._report("barrier.abandoned", seq, text)
        elif why == "policy":
            self._check_policy_failed(entry, barrier)
        elif why != "cancelled":
            self._report("barrier.abandoned", seq, f"barrier {barrier.id} ends at {seq} for {why}")
        if barrier.members is not None:
            self._check_abandoned_counts(entry, barrier, list(barrier.members))

    def _check_abandoned_counts(self, entry: Entry, barrier: Barrier, members: list[str]) -> None:
        """It may have known less than the log, and never more."""
        event = entry.event
        found = [self.outcomes.of_task(each) for each in members]
        settled = sum(
            outcome is not None or self.outcomes.is_missing(each, barrier)
            for each, outcome in zip(members, found, strict=True)
        )
        succeeded = sum(each is not None and each.is_success for each in found)
        if event.get("settled", 0) > settled or event.get("succeeded", 0) > succeeded:
            text = (
                f"barrier {barrier.id} is abandoned at {entry.seq} with {event.get('settled')} settled and"
                f" {event.get('succeeded')} completed, the log has {settled} and {succeeded}"
            )
            self._report("barrier.abandoned", entry.seq, text)

    def _check_policy_failed(self, entry: Entry, barrier: Barrier) -> None:
        if barrier.members is None or "members are not known" in entry.event.get("error", ""):
            return
        lost = succeeded_in_time = 0
        in_time_us = barrier.deadline_at_us - self._skew_us
        for task_id in barrier.members:
            outcome = self.outcomes.of_task(task_id)
            if outcome is None:
                lost += self.outcomes.is_missing(task_id, barrier)
            elif not outcome.is_success:
                lost += 1
            else:
                succeeded_in_time += outcome.at_us < in_time_us
        is_hopeless = barrier.count - lost < barrier.needed
        is_late = barrier.is_late(entry.at_us + self._skew_us)
        if not is_hopeless and not (is_late and succeeded_in_time < barrier.needed):
            text = (
                f"barrier {barrier.id} is abandoned at {entry.seq} though {barrier.count - lost} of"
                f" {barrier.count} may complete and {barrier.needed} have to"
            )
            self._report("barrier.abandoned", entry.seq, text)

    def _check_gate(self, entry: Entry, story: Story) -> None:
        """What a task waited for lets it run."""
        spec, seq = story.spec, entry.seq
        if (barrier_id := spec.get("continues")) is not None:
            barrier = self.barriers.get(barrier_id)
            if barrier is None or barrier.end_verb != "released":
                text = f"continuation {story.id} is offered at {seq}, barrier {barrier_id} not released"
                self._report("barrier.continuation", seq, text)
            return
        for task_id in spec.get("after", ()):
            outcome = self.outcomes.of_task(task_id)
            if outcome is None or not outcome.is_success:
                text = f"task {story.id} is offered at {seq}, but {task_id} has not completed"
                self._report("gate.after", seq, text)

    def _check_given_up(self, entry: Entry, story: Story) -> None:
        spec, seq = story.spec, entry.seq
        if (barrier_id := spec.get("continues")) is not None:
            barrier = self.barriers.get(barrier_id)
            is_right = self.is_lost(barrier_id) or (
                barrier is not None and barrier.end_verb == "abandoned"
            )
        else:
            found = [self.outcomes.of_task(each) for each in spec.get("after", ())]
            is_missing = any(self._came_later(each, story) for each in spec.get("after", ()))
            is_right = is_missing or any(each and not each.is_success for each in found)
        if not is_right:
            text = f"task {story.id} is given up at {seq}, and what it waits for may still succeed"
            self._report("gate.after", seq, text)

    def _came_later(self, task_id: str, story: Story) -> bool:
        """Whether a task that another one waits for was not there when that began to wait."""
        other = self._stories.get(task_id)
        return other is None or other.first_seq > story.first_seq
