"""In which order lanes are asked: high before normal before low, without starving those behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fleetlog.bus.offers import Lane
from fleetlog.schemas.subjects import PRIORITIES, Priority

STARTS_PER_TURN: Final[Mapping[Priority, int]] = {"low": 16, "normal": 8}
"""When all priorities wait, at least one start in so many is of this priority."""


class QueueShare(msgspec.Struct, frozen=True, kw_only=True):
    """What part of an agent a queue may have."""

    running_max: int | None = None
    """At most so many of its attempts at once on this agent; None: as many as there are slots."""
    weight: int = 1
    """When queues of one priority wait, each gets starts in proportion to its weight."""


class LaneOrder:
    """Plans what to ask for, and learns from what was started. Pure: no clock, no I/O.

    Args:
        lanes: which there are.
        weights: of queues, where it is not 1.
    """

    def __init__(self, lanes: Sequence[Lane], weights: Mapping[str, int] | None = None) -> None:
        self._lanes = list(lanes)
        self._deficits = _deficits(lanes, weights or {})
        self._turn = 0
        self._starts_since = dict.fromkeys(STARTS_PER_TURN, 0)

    def plan(self, free_count: int) -> list[tuple[tuple[Lane, ...], int]]:
        """Steps: lanes to ask in this order, and the most to take from them together.

        First what the waiting priorities are owed, then everything by priority. Queues of one priority take
        turns at being first; where they have weights, each is asked for its share, and then all for what the
        others left. The caller stops when nothing is free.
        """
        self._turn += 1
        owed = (
            (self._of(priority), (self._starts_since[priority] + free_count) // turn)
            for priority, turn in STARTS_PER_TURN.items()
        )
        rest = ((self._of(priority), free_count) for priority in PRIORITIES)
        steps = [(lanes, most) for lanes, most in owed if lanes and most]
        for lanes, most in rest:
            if lanes and (deficit := self._deficits.get(lanes[0].priority)) is not None:
                steps += [((lane,), share) for lane, share in deficit.shares(most)]
            if lanes and most:
                steps.append((lanes, most))
        return steps

    def note_start(self, lane: Lane) -> None:
        """Counts a start for the turns of the others."""
        if self._deficits and (deficit := self._deficits.get(lane.priority)) is not None:
            deficit.note_start(lane)
        for priority in self._starts_since:
            if priority == lane.priority:
                self._starts_since[priority] = 0
            else:
                # Capped: an empty lane is owed one start when it fills, not a burst.
                limit = STARTS_PER_TURN[priority] - 1
                self._starts_since[priority] = min(self._starts_since[priority] + 1, limit)

    def _of(self, priority: Priority) -> tuple[Lane, ...]:
        if priority in self._deficits:
            return self._deficits[priority].order()
        lanes = tuple(lane for lane in self._lanes if lane.priority == priority)
        first = self._turn % len(lanes) if lanes else 0
        return lanes[first:] + lanes[:first]


class _Deficit:
    """Deficit round robin among the queues of one priority.

    Each start adds to every queue's deficit its weight, and takes the sum of all weights from the queue that
    started. Who lacks most is next.
    """

    def __init__(self, weights: Mapping[Lane, int]) -> None:
        self._weights = weights
        self._total = sum(weights.values())
        self._lacks = dict.fromkeys(weights, 0)
        self._most = self._total

    def order(self) -> tuple[Lane, ...]:
        """The lanes, first what lacks most."""
        return tuple(sorted(self._lacks, key=lambda lane: -self._lacks[lane]))

    def shares(self, count: int) -> list[tuple[Lane, int]]:
        """Whose the next `count` starts are, if all wait."""
        self._most = max(count, self._total)
        lacks, shares = dict(self._lacks), dict.fromkeys(self.order(), 0)
        for _ in range(count):
            lane = max(shares, key=lambda each: lacks[each])
            shares[lane] += 1
            self._count(lacks, lane)
        return [(lane, share) for lane, share in shares.items() if share]

    def note_start(self, lane: Lane) -> None:
        """Counts it."""
        self._count(self._lacks, lane)
        # A queue that was empty is owed one round when it fills, not a burst; neither is it owed for ever.
        limit = self._most * self._total
        for each, lack in self._lacks.items():
            self._lacks[each] = max(-limit, min(lack, limit))

    def _count(self, lacks: dict[Lane, int], started: Lane) -> None:
        for lane, weight in self._weights.items():
            lacks[lane] += weight
        lacks[started] -= self._total


def _deficits(lanes: Sequence[Lane], weights: Mapping[str, int]) -> dict[Priority, _Deficit]:
    """Where all weigh the same, taking turns does it, and costs less."""
    found: dict[Priority, _Deficit] = {}
    for priority in PRIORITIES:
        of_lanes = {lane: weights.get(lane.queue, 1) for lane in lanes if lane.priority == priority}
        if len(set(of_lanes.values())) > 1:
            found[priority] = _Deficit(of_lanes)
    return found
