"""What the log holds of each thing. Equal histories are one object, so `evolve` runs once for each."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from fleetlog.bus.core import Task
from fleetlog.bus.core import evolve as _evolve
from fleetlog.schemas.envelope import Recorded, Stored, decode
from fleetlog.schemas.events import AnyEvent
from fleetlog.schemas.subjects import guard
from simulation.worlds.reading import Reading, read
from tests.given import T0

STRIDE = 100
"""Event n of thing i has the sequence n * STRIDE + i: it grows within each thing, and none has another's."""
T0_NS = int(T0.timestamp()) * 10**9

evolve = _evolve
"""Where a planted bug is put in."""


class Thing(NamedTuple):
    """A task, a barrier or an agent."""

    place: int
    """Among all things of a world: in this order a page of the log is read."""
    kind: Literal["task", "barrier", "agent"]
    id: str

    @property
    def guard(self) -> str:
        """What every append to it has to carry."""
        return guard("main", self.kind, self.id)


class History:
    """All events of one thing so far."""

    __slots__ = ("_next", "event", "length", "parent", "reading", "seq", "stored", "task", "thing")

    def __init__(self, thing: Thing, parent: History | None = None) -> None:
        self.thing = thing
        self.parent = parent
        self.length = 0
        self.seq = 0
        self.event: AnyEvent | None = None
        self.stored: Stored | None = None
        self.task = Task(id=thing.id)
        self.reading = Reading()
        self._next: dict[tuple[str, bytes], History] = {}

    def then(self, subject: str, data: bytes) -> History:
        """The history with one more event."""
        found = self._next.get((subject, data))
        if found is None:
            found = self._next[subject, data] = History(self.thing, self)
            found._begin(self, subject, data)
        return found

    def _begin(self, before: History, subject: str, data: bytes) -> None:
        event = decode(data)
        assert not isinstance(event, msgspec.UnsetType)
        self.length = before.length + 1
        self.seq = self.length * STRIDE + self.thing.place
        self.stored = Stored(self.seq, T0_NS, subject, data)
        self.event = event  # type: ignore[assignment]  # every event here was made by this version
        if self.thing.kind == "task":
            self.task = evolve(before.task, Recorded(self.seq, T0, None, event))
        self.reading = read(before.reading, self.seq, event)  # type: ignore[arg-type]  # as above

    def since(self, before: History) -> list[History]:
        """What came after `before`, one event at a time."""
        found: list[History] = []
        at = self
        while at is not before:
            found.append(at)
            assert at.parent is not None
            at = at.parent
        return found[::-1]

    def at(self, seq: int) -> History:
        """As it was when the event at `seq` was the last."""
        found = self
        while found.seq > seq:
            assert found.parent is not None
            found = found.parent
        return found

    def after(self, expected: int) -> History | None:
        """The first event behind `expected`; None if there is none."""
        found = None
        at: History | None = self
        while at is not None and at.seq > expected:
            found, at = at, at.parent
        return found
