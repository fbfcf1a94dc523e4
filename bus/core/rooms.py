"""How many more tasks a queue's agents can run, of which some may keep slots for high ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleetlog.schemas.subjects import Priority


class Load(NamedTuple):
    """An agent at one moment."""

    slots: int
    """How many tasks it can run at once."""
    held_count: int
    """How many it runs."""
    reserve_high: int = 0
    """So many of its slots are for high tasks alone."""
    high_count: int = 0
    """How many high ones it runs: they use the reserve up first."""


def room_for(priority: str, loads: Iterable[Load], offered: Mapping[Priority, int]) -> int:
    """How many more tasks of this priority can start at once; below 0 where too many are on offer.

    Args:
        priority: theirs.
        loads: the agents that serve their queue.
        offered: by priority, how many tasks of the queue are on offer already.
    """
    free_count = kept_count = 0
    for load in loads:
        free = max(0, load.slots - load.held_count)
        free_count += free
        kept_count += min(free, max(0, load.reserve_high - load.high_count))
    room = free_count - sum(offered.values())
    if priority == "high":
        return room
    # The high ones on offer will use the reserve up.
    return room - max(0, kept_count - offered.get("high", 0))
