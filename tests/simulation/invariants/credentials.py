"""Credentials: what is paused keeps tasks that have to be let in from being offered."""

from __future__ import annotations

from typing import Any

from simulation.invariants.messages import Entry, Report, Tolerance, instant_us
from simulation.invariants.names import credential_of, is_let_in
from simulation.invariants.story import Step, Story


class Credentials:
    """All credentials that were ever paused.

    Args:
        report: where violations go.
        tolerance: what is forgiven.
    """

    def __init__(self, report: Report, tolerance: Tolerance) -> None:
        self._report = report
        self._skew_us = tolerance.skew_ms * 1000
        self._lag_us = tolerance.lag_ms * 1000
        self._pauses: dict[str, tuple[int, int | None]] = {}
        """Since when, and until when if that is known."""

    def take(self, entry: Entry) -> None:
        """An event of a credential."""
        if entry.verb == "resumed":
            self._pauses.pop(entry.id, None)
            return
        until = entry.event.get("until")
        since_us = self._since(entry.id, entry.at_us)
        until_us = None if until is None else instant_us(until)
        self._pauses[entry.id] = (entry.at_us if since_us is None else since_us, until_us)

    def take_step(self, step: Step) -> None:
        """An offer."""
        entry, story, was = step[:3]
        if not self._pauses or was not in ("held", "waiting"):
            return
        since_us = self._since_of(story.spec, entry.at_us + self._skew_us)
        if since_us is not None and entry.at_us - since_us > self._lag_us:
            name = credential_of(story.spec)
            text = f"task {story.id} is offered at {entry.seq} though credential {name} is paused"
            self._report("credential.paused", entry.seq, text)

    def end(self, seq: int, at_us: int, stories: dict[str, Story]) -> None:
        """Everything had time to settle: offers were taken back."""
        for story in stories.values():
            if story.status == "queued" and self._since_of(story.spec, at_us) is not None:
                name = credential_of(story.spec)
                text = f"task {story.id} is still on offer though credential {name} is paused"
                self._report("credential.paused", seq, text)

    def _since_of(self, spec: dict[str, Any], at_us: int) -> int | None:
        name = credential_of(spec) if is_let_in(spec) else None
        return self._since(name, at_us) if name is not None else None

    def _since(self, name: str, at_us: int) -> int | None:
        since_us, until_us = self._pauses.get(name, (None, None))
        return since_us if until_us is None or until_us > at_us else None
