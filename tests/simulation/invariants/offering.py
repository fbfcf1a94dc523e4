"""How a task comes to be held and offered: its gates, its waits, and what an offer says."""

from __future__ import annotations

from typing import Any, Final

from simulation.invariants.messages import Entry, Report, Tolerance, instant_us
from simulation.invariants.names import has_gate, is_let_in, offer_queue, waits_for_tasks
from simulation.invariants.story import NO_ANSWERS, Story

_AFFINITY_MS: Final = 30_000


class Offering:
    """Takes `held` and `queued` events.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self._report = report
        self._skew_us = tolerance.skew_ms * 1000
        self._stuck_us = tolerance.stuck_ms * 1000 - self._skew_us

    def take_held(self, entry: Entry, story: Story) -> bool:
        """The task is held: it is new, was replaced, answered, or its offer was taken back."""
        event, was = entry.event, story.status
        spec = event["spec"]
        is_other = _without_delay(spec) != _without_delay(story.spec) or bool(spec.get("delay_ms"))
        if was == "absent":
            if not has_gate(spec):
                self._report("gate.held", entry.seq, f"task {story.id} is held without a gate")
        elif was == "waiting":
            if is_other:
                self._report_other(entry, story)
            self._check_answered(entry, story)
            if not is_let_in(spec):
                text = f"task {story.id} is held at {entry.seq} though nobody has to let it in"
                self._report("gate.held", entry.seq, text)
        elif is_other or was == "held":
            self._check_replaceable(entry, story, spec)
        elif not is_let_in(spec) and not _is_replaceable(story, spec):
            text = f"the offer {story.offer} of task {story.id} is taken back without a reason"
            self._report("gate.held", entry.seq, text)
        self._take_spec(entry, story, spec)
        story.status = "held"
        story.due_at_us = entry.at_us + spec.get("delay_ms", 0) * 1000
        return True

    def take_queued(self, entry: Entry, story: Story) -> bool:
        """The task is offered: it is new, was replaced, its wait is over, or it is offered anew."""
        event, was = entry.event, story.status
        spec = event["spec"]
        host = event.get("host")
        if was == "absent" or spec != story.spec:
            if has_gate(spec):
                text = f"task {story.id} is offered at {entry.seq} before its gates were looked at"
                self._report("gate.held", entry.seq, text)
        elif was == "held":
            self._check_due(entry, story, "wait.delay")
        elif was == "queued":
            self._check_moved(entry, story, host)
        if was == "waiting":
            if story.question is not None:
                self._check_answered(entry, story)
                if is_let_in(spec):
                    text = f"task {story.id} is offered at {entry.seq} by an answer alone"
                    self._report("gate.held", entry.seq, text)
            else:
                self._check_due(entry, story, "wait.retry")
        self._check_counts(entry, story)
        if was != "absent" and spec != story.spec:
            if was == "waiting":
                self._report_other(entry, story)
            else:
                self._check_replaceable(entry, story, spec)
        self._take_spec(entry, story, spec)
        story.status = "queued"
        story.offer = entry.seq
        story.affinity_host = host
        return True

    def _take_spec(self, entry: Entry, story: Story, spec: dict[str, Any]) -> None:
        event = entry.event
        answers = event.get("answers", NO_ANSWERS)
        if story.status not in ("absent", "waiting") and answers != story.answers:
            text = f"the answers of task {story.id} change at {entry.seq} though it asked nothing"
            self._report("question.answered", entry.seq, text)
        story.spec, story.digest = spec, event.get("digest")
        story.answers, story.question = answers, None
        story.since_us = entry.at_us
        queue = offer_queue(spec.get("queue", "default"), spec.get("requires", {}))
        story.lane = (queue, spec.get("priority", "normal"))

    def _check_due(self, entry: Entry, story: Story, rule: str) -> None:
        early_us = story.due_at_us - self._skew_us - entry.at_us
        if early_us > 0:
            text = (
                f"task {story.id} is offered at {entry.seq}, {early_us / 1000} ms before its time"
            )
            self._report(rule, entry.seq, text)
        if story.status == "waiting" and entry.event.get("answers", NO_ANSWERS) != story.answers:
            text = f"task {story.id} is offered at {entry.seq} with answers that it did not ask for"
            self._report("question.answered", entry.seq, text)

    def _check_moved(self, entry: Entry, story: Story, host: str | None) -> None:
        if host == story.affinity_host:
            is_replaced = _is_replaceable(story, story.spec) and not has_gate(story.spec)
            if entry.at_us - story.since_us < self._stuck_us and not is_replaced:
                text = f"task {story.id}, on offer since {story.offer}, is offered again at {entry.seq}"
                self._report("wait.again", entry.seq, text)
            return
        wait_us = story.spec.get("affinity_ms", _AFFINITY_MS) * 1000 - self._skew_us
        if host is not None or entry.at_us - story.since_us < wait_us:
            text = (
                f"the offer of task {story.id} goes from host {story.affinity_host} to"
                f" {host or 'all'} at {entry.seq}, before its time"
            )
            self._report("wait.affinity", entry.seq, text)

    def _check_counts(self, entry: Entry, story: Story) -> None:
        event = entry.event
        told = (event.get("attempt", 1), event.get("failures", 0), event.get("losses", 0))
        known = (story.attempts + 1, story.failures, story.losses)
        if told != known:
            text = (
                f"the offer {entry.seq} of task {story.id} says attempt, failures, losses {told}, its"
                f" history {known}"
            )
            self._report("count.offer", entry.seq, text)
        submitted = event.get("submitted_at")
        first_us = instant_us(submitted) if submitted is not None else 0
        if first_us != story.first_at_us:
            text = f"the offer {entry.seq} of task {story.id} says it was submitted {submitted}"
            self._report("count.offer", entry.seq, text)

    def _check_answered(self, entry: Entry, story: Story) -> None:
        answers, before = entry.event.get("answers", NO_ANSWERS), story.answers
        question = story.question
        is_one_more = len(answers) == len(before) + 1 and answers[:-1] == before
        if question is None or not is_one_more:
            text = f"task {story.id} goes on at {entry.seq} without the answer to its question"
            self._report("question.answered", entry.seq, text)
            return
        last, choices = answers[-1], question.get("choices", [])
        if last.get("question") != question.get("text") or (
            choices and last.get("answer") not in choices
        ):
            text = f"task {story.id} has an answer at {entry.seq} that fits no question of its"
            self._report("question.answered", entry.seq, text)

    def _report_other(self, entry: Entry, story: Story) -> None:
        text = f"the spec of task {story.id} changes at {entry.seq} though it has run"
        self._report("task.spec", entry.seq, text)

    def _check_replaceable(self, entry: Entry, story: Story, spec: dict[str, Any]) -> None:
        if not _is_replaceable(story, spec):
            text = (
                f"task {story.id} is replaced at {entry.seq} though it has run or is tied to others"
            )
            self._report("task.spec", entry.seq, text)


def _is_replaceable(story: Story, spec: dict[str, Any]) -> bool:
    return not story.attempts and not any(
        waits_for_tasks(each) or each.get("barrier_id") or each.get("budget")
        for each in (story.spec, spec)
    )


def _without_delay(spec: dict[str, Any]) -> dict[str, Any]:
    if "delay_ms" not in spec:
        return spec
    return {name: value for name, value in spec.items() if name != "delay_ms"}
