"""What a number of runs reached: which event followed which, and which trouble met tasks in which state."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence

from simulation.server import EPOCH_NS
from simulation.stream import NS, Kept

NEAR_NS = NS
"""What follows a trouble within this time may follow from it."""

FLOOR_RUNS = 100
"""The floor below is for so many runs, or more."""
STEPS_FLOOR = 75
"""Different pairs of events, the second after the first on one thing."""
TROUBLES_FLOOR = 110
"""Different pairs of a trouble and an event of a task soon after it."""


class Reached:
    """Counts over any number of runs."""

    def __init__(self) -> None:
        self.steps: Counter[str] = Counter()
        """`task queued → claimed` and so on."""
        self.troubles: Counter[str] = Counter()
        """`kill agent, then task retried` and so on."""

    def look_at(self, log: Sequence[Kept], troubles: Iterable[tuple[float, str]]) -> None:
        """A run."""
        before: dict[str, str] = {}
        for kept in log:
            _, _, kind, thing, *_ = kept.subject.split(".")
            verb = kept.subject.rsplit(".", 1)[1]
            key = f"{kind}.{thing}"
            self.steps[f"{kind} {before.get(key, 'nothing')} → {verb}"] += 1
            before[key] = verb
        instants = [kept.at_ns for kept in log]
        for at, trouble in troubles:
            since = EPOCH_NS + int(at * NS)
            first = bisect.bisect_left(instants, since)
            last = bisect.bisect_right(instants, since + NEAR_NS)
            for kept in log[first:last]:
                if ".task." in kept.subject:
                    self.troubles[f"{trouble}, then task {kept.subject.rsplit('.', 1)[1]}"] += 1

    def add(self, other: Reached) -> None:
        """Others' counts."""
        self.steps += other.steps
        self.troubles += other.troubles

    def missing(self, runs: int) -> str | None:
        """What is less than it must be, if enough was run to say so."""
        if runs < FLOOR_RUNS:
            return None
        for what, found, floor in (
            ("steps", self.steps, STEPS_FLOOR),
            ("troubles", self.troubles, TROUBLES_FLOOR),
        ):
            if len(found) < floor:
                return f"only {len(found)} different {what} were reached, there must be {floor}"
        return None
