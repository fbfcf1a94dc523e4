"""In which order lanes are asked: high before normal before low, without starving those behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        is_asked: whether a lane will be asked now; one that was just found empty needs no share.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        weights: Mapping[str, int] | None = None,
        *,
        is_asked: Callable[[Lane], bool] = lambda _: True,
    ) -> None:
        self._lanes = list(lanes)
        self._fair = _fair(lanes, weights or {})
        self._is_asked = is_asked
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
            if lanes and (fair := self._fair.get(lanes[0].priority)) is not None:
                steps += [((lane,), share) for lane, share in fair.shares(most, self._is_asked)]
            if lanes and most:
                steps.append((lanes, most))
        return steps

    def note_start(self, lane: Lane) -> None:
        """Counts a start for the turns of the others."""
        if self._fair and (fair := self._fair.get(lane.priority)) is not None:
            fair.note_start(lane)
        for priority in self._starts_since:
            if priority == lane.priority:
                self._starts_since[priority] = 0
            else:
                # Capped: an empty lane is owed one start when it fills, not a burst.
                limit = STARTS_PER_TURN[priority] - 1
                self._starts_since[priority] = min(self._starts_since[priority] + 1, limit)

    def _of(self, priority: Priority) -> tuple[Lane, ...]:
        if priority in self._fair:
            return self._fair[priority].order()
        lanes = tuple(lane for lane in self._lanes if lane.priority == priority)
        first = self._turn % len(lanes) if lanes else 0
        return lanes[first:] + lanes[:first]


class _Fair:
    """Shares starts among the queues of one priority by their weights.

    Each start costs its queue 1/weight, and who has paid least is next. So a queue that is empty takes nothing
    from the proportion of the others, which a deficit that grows with everybody's starts would.
    """

    def __init__(self, weights: Mapping[Lane, int]) -> None:
        self._costs = {lane: 1 / weight for lane, weight in weights.items()}
        self._round = sum(weights.values())
        self._paid = dict.fromkeys(weights, 0.0)
        self._burst = self._round

    def order(self) -> tuple[Lane, ...]:
        """The lanes, first who has paid least."""
        return tuple(sorted(self._paid, key=self._paid.__getitem__))

    def shares(self, count: int, is_asked: Callable[[Lane], bool]) -> list[tuple[Lane, int]]:
        """Whose the next `count` starts are, if all that are asked wait."""
        self._burst = max(count, self._round)
        paid = dict(self._paid)
        shares = dict.fromkeys(filter(is_asked, self.order()), 0)
        if not shares:
            return []
        for _ in range(count):
            lane = min(shares, key=paid.__getitem__)
            shares[lane] += 1
            paid[lane] += self._costs[lane]
        return [(lane, share) for lane, share in shares.items() if share]

    def note_start(self, lane: Lane) -> None:
        """Counts it."""
        self._paid[lane] += self._costs[lane]
        # A queue that was empty is owed one round when it fills, not all that it did not take.
        for other, cost in self._costs.items():
            least = self._paid[lane] - self._burst * cost
            self._paid[other] = max(self._paid[other], least)


def _fair(lanes: Sequence[Lane], weights: Mapping[str, int]) -> dict[Priority, _Fair]:
    """Where all weigh the same, taking turns does it, and costs less."""
    found: dict[Priority, _Fair] = {}
    for priority in PRIORITIES:
        of_lanes = {lane: weights.get(lane.queue, 1) for lane in lanes if lane.priority == priority}
        if len(set(of_lanes.values())) > 1:
            found[priority] = _Fair(of_lanes)
    return found
