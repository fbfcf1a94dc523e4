"""A task's life: which event may follow which, and what each of them must say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from simulation.invariants.attempts import Attempts
from simulation.invariants.messages import Entry, Report, Tolerance
from simulation.invariants.names import is_revival_of, key_id, offer_queue
from simulation.invariants.offering import Offering
from simulation.invariants.story import SETTLED, Step, Story

_ALLOWED: Final[dict[str, frozenset[str]]] = {
    "held": frozenset({"absent", "held", "queued", "waiting"}),
    "queued": frozenset({"absent", "held", "queued", "waiting"}),
    "claimed": frozenset({"queued", "claimed"}),
    "cancel_requested": frozenset({"claimed"}),
    "retried": frozenset({"claimed"}),
    "returned": frozenset({"claimed"}),
    "completed": frozenset({"claimed"}),
    "failed": frozenset({"held", "claimed"}),
    "cancelled": frozenset({"held", "queued", "waiting", "claimed"}),
    "expired": frozenset({"held", "queued", "waiting"}),
}
_AFTER_CANCEL: Final = frozenset({"completed", "cancelled"})


class Tasks:
    """All tasks.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self.stories: dict[str, Story] = {}
        self._report = report
        offering = Offering(report, tolerance)
        self.attempts = Attempts(report, tolerance)
        self._takers: dict[str, Callable[[Entry, Story], bool]] = {
            "held": offering.take_held,
            "queued": offering.take_queued,
            "claimed": self.attempts.take_claimed,
            "cancel_requested": self.attempts.take_cancel_requested,
            "retried": self.attempts.take_retried,
            "returned": self.attempts.take_returned,
            "completed": self.attempts.take_end,
            "failed": self.attempts.take_end,
            "cancelled": self.attempts.take_end,
            "expired": self.attempts.take_expired,
        }

    def take(self, entry: Entry) -> Step | None:
        """An event of a task; None if it changes nothing, because it should not be there."""
        task_id, verb = entry.id, entry.verb
        story = self.stories.get(task_id)
        if story is None:
            story = self.stories[task_id] = Story(task_id)
        was, had_offer = story.status, story.offer > 0
        if was not in _ALLOWED[verb]:
            self._refuse(entry, story)
            return None
        if story.is_cancel_asked and verb not in _AFTER_CANCEL:
            text = f"task {task_id} was asked to end, and then came {verb} at {entry.seq}"
            self._report("cancel.heeded", entry.seq, text)
        if not self._takers[verb](entry, story):
            return None
        if was == "absent":
            self._take_first(entry, story)
        if entry.lane != (lane := _lane(entry, story)):
            text = f"{verb} at {entry.seq} of task {task_id} stands on {entry.lane}, not on {lane}"
            self._report("task.lane", entry.seq, text)
        return Step(entry, story, was, had_offer)

    def _refuse(self, entry: Entry, story: Story) -> None:
        verb, seq = entry.verb, entry.seq
        if not story.is_ended:
            rule = "task.transition"
            text = f"task {story.id} was {story.status}, and {verb} at {seq} is not allowed then"
        elif verb in SETTLED:
            rule = "task.one_ending"
            text = f"task {story.id} ended at {story.end_seq}, and again with {verb} at {seq}"
        else:
            rule = "task.after_ending"
            text = f"task {story.id} ended at {story.end_seq}, and {verb} came after it at {seq}"
        self._report(rule, seq, text)

    def _take_first(self, entry: Entry, story: Story) -> None:
        spec = story.spec
        story.first_seq, story.first_at_us = entry.seq, entry.at_us
        story.cause = entry.event.get("cause")
        if (key := spec.get("key")) is not None and story.id != key_id(key):
            text = f"task {story.id} has the key {key!r}, whose only task is {key_id(key)}"
            self._report("task.key", entry.seq, text)
        dead = self.stories.get(story.cause) if story.cause else None
        if dead is not None and is_revival_of(story.id, dead.id):
            self._check_revival(entry, story, dead)

    def _check_revival(self, entry: Entry, story: Story, dead: Story) -> None:
        is_again = dead.cause is not None and is_revival_of(dead.id, dead.cause)
        if dead.status not in (("failed", "cancelled", "expired") if is_again else ("failed",)):
            text = f"task {story.id} revives {dead.id}, which is {dead.status} at {entry.seq}"
            self._report("task.revival", entry.seq, text)
        elif story.spec != _for_revival(dead.spec) or story.digest != dead.digest:
            text = f"task {story.id} revives {dead.id} with another spec"
            self._report("task.revival", entry.seq, text)


def _lane(entry: Entry, story: Story) -> tuple[str, str]:
    """Queue and priority of the spec; an offer to one host stands on a queue of its own."""
    host = entry.event.get("host") if entry.verb == "queued" else None
    if host is None:
        return story.lane
    spec = story.spec
    requires = {**spec.get("requires", {}), "host": host}
    return offer_queue(spec.get("queue", "default"), requires), story.lane[1]


def _for_revival(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in ("key", "delay_ms")}
