"""Coordinators: each has a fold as old as its last look at the log, and acts that it has not done yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from fleetlog.bus.jetstream.appender import Appender, _Pending
from fleetlog.bus.log import Append
from simulation.worlds.folds import READ_ON, Act, Folds
from simulation.worlds.histories import History
from simulation.worlds.server import Server


class Seat(NamedTuple):
    """One coordinator."""

    cut: tuple[History, ...]
    """How far it has read, for each thing."""
    fold: int
    acts: frozenset[Act]
    """Decided on, not done."""


class Seats:
    """All states of coordinators that were met, by number."""

    def __init__(self, folds: Folds, server: Server) -> None:
        self.folds = folds
        self._server = server
        self.known: list[Seat] = []
        self._numbers: dict[Seat, int] = {}
        self._pruned: dict[tuple[int, int, History], int] = {}
        self._read: dict[tuple[int, tuple[History, ...], bool], int] = {}

    def begin(self, log: tuple[History, ...], *, is_late: bool = False) -> int:
        """One that has just been started, without a snapshot."""
        empty = tuple(history.at(0) for history in log)
        first = self.keep(Seat(empty, self.folds.first, frozenset()))
        return self.read(first, log, is_late=is_late)

    def begin_with(self, number: int, log: tuple[History, ...], *, is_late: bool = False) -> int:
        """One that has just been started, with the snapshot that another one saved before it ended."""
        seat = self.known[number]
        restored = Seat(seat.cut, self.folds.restored(seat.fold), frozenset())
        return self.read(self.keep(restored), log, is_late=is_late)

    def keep(self, seat: Seat) -> int:
        number = self._numbers.setdefault(seat, len(self.known))
        if number == len(self.known):
            self.known.append(seat)
        return number

    def read(self, number: int, log: tuple[History, ...], *, is_late: bool = False) -> int:
        """It reads to the log's end, and looks what is to do."""
        key = (number, log, is_late)
        found = self._read.get(key)
        if found is None:
            seat = self.known[number]
            fold = seat.fold
            for history in page(seat.cut, log):
                fold = self.folds.take(fold, history)
            fold, acts = self.folds.look(fold, is_late=is_late)
            # What it decides on by what it has just read may be old by the time it is done.
            found = self._read[key] = self.keep(Seat(log, fold, seat.acts.union(acts)))
        return found

    def without(self, number: int, act: Act) -> int:
        """The act is done, or is not to be done any more."""
        seat = self.known[number]
        return self.keep(seat._replace(acts=seat.acts - {act}))

    def pruned(self, number: int, place: int, history: History) -> int:
        """Without appends to a thing that will be refused for ever: a refusal makes no difference to anyone."""
        key = (number, place, history)
        found = self._pruned.get(key)
        if found is None:
            seat = self.known[number]
            kept = [act for act in seat.acts if not self._is_doomed(act, place, history)]
            found = self.keep(seat._replace(acts=frozenset(kept)))
            self._pruned[key] = found
        return found

    def asked(
        self, number: int, act: Act, log: tuple[History, ...], *, is_late: bool = False
    ) -> tuple[int, Append | None]:
        """It does an act that asks the log, and looks again."""
        seat = self.known[number]
        if act.kind == READ_ON:
            seat = self.known[self.read(number, log, is_late=is_late)]
            fold, acts = self.folds.look(self.folds.late(seat.fold, act.join), is_late=is_late)
            return self.keep(seat._replace(fold=fold, acts=(seat.acts - {act}).union(acts))), None
        cut = [history.seq for history in seat.cut]
        done = self.folds.carry_out(seat.fold, act, log, cut)
        fold, acts = self.folds.look(done.fold, is_late=is_late)
        return self.keep(seat._replace(fold=fold, acts=(seat.acts - {act}).union(acts))), done.entry

    def _is_doomed(self, act: Act, place: int, history: History) -> bool:
        if act.entry is None or act.thing != place:
            return False
        return self._server.is_doomed(act.entry, history)


def page(before: Sequence[History], now: Sequence[History]) -> list[History]:
    """What was stored since, in an order in which it may have been.

    Events of different things have no order in these worlds but this: what names others comes before them, and
    a barrier ends after its members. So what a coordinator reads in one page has one order, not each that there
    is; other orders are those of other pages.
    """
    found = [each for a, b in zip(before, now, strict=True) if a is not b for each in b.since(a)]
    return sorted(found, key=lambda each: (_rank(each), each.thing.place, each.length))


def _rank(history: History) -> int:
    is_first = history.length == 1
    match history.thing.kind:
        case "agent":
            return 0
        case "barrier":
            return 1 if is_first else 4
        case _ if history.task.spec is not None and history.task.spec.continues is not None:
            return 2 if is_first else 5
        case _:
            return 3


def grouped(entries: Sequence[Append]) -> list[Append]:
    """What of these appends one process would send as a batch: by the appender's own rule."""
    open_future: Any = SimpleNamespace(done=lambda: False)
    appender: Any = SimpleNamespace(
        _queue=deque(_Pending(each, open_future, 0) for each in entries)
    )
    return [pending.entry for pending in Appender._take_group(appender)]
