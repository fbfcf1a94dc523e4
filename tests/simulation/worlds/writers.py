"""How whoever appends learns what became of it: by the answer, or by the log's own evidence."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fleetlog.bus.jetstream.last_known import id_of
from fleetlog.bus.log import Append
from simulation.worlds.histories import History

Evidence = Literal["ours", "theirs", "none"]


class Writing(NamedTuple):
    """An append on its way.

    A request that is lost goes again, like one that is late: nothing else in the world is changed by it, so it
    needs no step of its own. An answer that is lost leaves an event behind that its writer does not know of.
    """

    entry: Append
    stage: Literal["sent", "flying", "stored"] = "sent"
    """Flying: let in by a replicated server, and not stored yet."""


def evidence(history: History, entry: Append) -> Evidence:
    """What the appender reads when it was refused: who took the place behind `expected`?"""
    winner = history.after(entry.expected)
    if winner is None or winner.stored is None:
        return "none"
    return "ours" if id_of(winner.stored.data) == entry.event_id else "theirs"


def place_of(history: History, entry: Append) -> int:
    """The sequence of an append that was stored."""
    at: History | None = history
    while at is not None and at.seq > entry.expected:
        if at.stored is not None and at.stored.data == entry.data:
            return at.seq
        at = at.parent
    return 0


def misled(history: History, entry: Append, told: Evidence) -> str:
    """Why what the writer was told is not so; empty if it is."""
    is_there = place_of(history, entry) > 0
    if is_there != (told == "ours"):
        return "was told of a conflict, while its event is in the log" if is_there else "lost event"
    return ""
