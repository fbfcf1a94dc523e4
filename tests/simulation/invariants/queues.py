"""Queues: which of them are paused, and what those are called that stand for requirements."""

from __future__ import annotations

from simulation.invariants.messages import Entry, Report, Tolerance
from simulation.invariants.names import offer_queue
from simulation.invariants.story import Step


class Queues:
    """All queues of which something was said.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self._report = report
        self._lag_us = tolerance.lag_ms * 1000
        self._paused_at_us: dict[str, int] = {}

    def take(self, entry: Entry) -> None:
        """An event of a queue."""
        event, verb = entry.event, entry.verb
        if verb == "paused":
            self._paused_at_us.setdefault(entry.id, entry.at_us)
        elif verb == "resumed":
            self._paused_at_us.pop(entry.id, None)
        elif verb == "derived":
            wanted = offer_queue(event.get("queue", ""), event.get("requires", {}))
            if entry.id != wanted:
                text = f"queue {entry.id}, derived at {entry.seq}, should be called {wanted}"
                self._report("queue.derived", entry.seq, text)

    def take_step(self, step: Step) -> None:
        """A claim."""
        if not self._paused_at_us:
            return
        entry, story = step.entry, step.story
        queue = story.spec.get("queue", "default")
        names = {queue, story.lane[0]}
        if (host := story.affinity_host) is not None:
            names.add(offer_queue(queue, {**story.spec.get("requires", {}), "host": host}))
        for name in sorted(names & self._paused_at_us.keys()):
            if entry.at_us - self._paused_at_us[name] > self._lag_us:
                text = f"task {story.id} is claimed at {entry.seq} though queue {name} is paused"
                self._report("queue.paused", entry.seq, text)
