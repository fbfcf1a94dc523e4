"""What is on the way for things that wait: queues of acts, and the instants at which one must look again."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

_STALE_MAX: Final = 1_000


class Agenda(msgspec.Struct):
    """What is to do for one join, as queues: with 50,000 members nothing may look at all of them at each event.

    Not part of the fold: it follows from it, and what was under way is done again after a restart. The queues
    are ordered dicts: to take the first out of a plain one costs a walk over all that were taken before.
    """

    looks: OrderedDict[str, bool] = msgspec.field(default_factory=OrderedDict)
    """What the log is to be asked for, and whether it is a member."""
    makes: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    """Members to make."""
    made: set[str] = set()
    """Those whose making is under way or done."""
    cancels: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    """What is to end."""
    sent: set[object] = set()
    """Of all else, what is under way or done in this state."""
    roused_at: datetime | None = None
    """The join's `stirred_at` when its patience was over."""


class Alarms:
    """For each name the first instant at which to look at it again; one that rang has to be set anew."""

    def __init__(self) -> None:
        self._set: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def set(self, name: str, at: datetime) -> None:
        """At `at`, unless it rings before."""
        known = self._set.get(name)
        if known is not None and known <= at:
            return
        self._set[name] = at
        heapq.heappush(self._heap, (at, name))
        if len(self._heap) > 2 * len(self._set) + _STALE_MAX:
            # A standby lets none of them ring: what came to pass by another one's acts would stay for ever.
            self._heap = [(instant, each) for each, instant in self._set.items()]
            heapq.heapify(self._heap)

    def drop(self, name: str) -> None:
        """It need not ring any more."""
        self._set.pop(name, None)

    def ring(self, now: datetime) -> Iterator[str]:
        """Those whose instant has come."""
        while self._heap and self._heap[0][0] <= now:
            at, name = heapq.heappop(self._heap)
            if self._set.get(name) == at:
                del self._set[name]
                yield name

    def next_at(self) -> datetime | None:
        """The first instant of all."""
        while self._heap and self._set.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
