"""In which order lanes are asked: high before normal before low, without starving those behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fleetlog.bus.offers import Lane
from fleetlog.schemas.subjects import PRIORITIES, Priority

STARTS_PER_TURN: Final[Mapping[Priority, int]] = {"low": 16, "normal": 8}
"""When all priorities wait, at least one start in so many is of this priority."""


class LaneOrder:
    """Plans what to ask for, and learns from what was started. Pure: no clock, no I/O."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = list(lanes)
        self._turn = 0
        self._starts_since = dict.fromkeys(STARTS_PER_TURN, 0)

    def plan(self, free_count: int) -> list[tuple[tuple[Lane, ...], int]]:
        """Steps: lanes to ask in this order, and the most to take from them together.

        First what the waiting priorities are owed, then everything by priority. Queues of one priority take
        turns at being first. The caller stops when nothing is free.
        """
        self._turn += 1
        owed = (
            (self._of(priority), (self._starts_since[priority] + free_count) // turn)
            for priority, turn in STARTS_PER_TURN.items()
        )
        rest = ((self._of(priority), free_count) for priority in PRIORITIES)
        return [(lanes, most) for lanes, most in (*owed, *rest) if lanes and most]

    def note_start(self, lane: Lane) -> None:
        """Counts a start for the turns of the others."""
        for priority in self._starts_since:
            if priority == lane.priority:
                self._starts_since[priority] = 0
            else:
                # Capped: an empty lane is owed one start when it fills, not a burst.
                limit = STARTS_PER_TURN[priority] - 1
                self._starts_since[priority] = min(self._starts_since[priority] + 1, limit)

    def _of(self, priority: Priority) -> tuple[Lane, ...]:
        lanes = tuple(lane for lane in self._lanes if lane.priority == priority)
        first = self._turn % len(lanes) if lanes else 0
        return lanes[first:] + lanes[:first]
