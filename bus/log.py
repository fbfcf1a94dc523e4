"""The log as everything else sees it: guarded appends, and reading from any sequence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec

from fleetlog.schemas.envelope import Stored, encode
from fleetlog.schemas.events import Event
from fleetlog.schemas.subjects import Subject, format_subject, guard_of

TOGETHER_MAX: Final = 1000
"""The server's limit for an atomic batch."""


class Append(msgspec.Struct, frozen=True, gc=False):
    """One event on its way into the log."""

    subject: str
    """Where it goes."""
    guard: str
    """`guard_of` the subject: what must not have changed."""
    expected: int
    """Sequence of the last event on the guard; 0 when this is the first."""
    event_id: str
    """The id inside `data`; the writer recognises its own event by it."""
    data: bytes
    """The encoded event."""


def entry(subject: Subject, expected: int, event: Event) -> Append:
    """The append of `event`, with the guard that every append to this thing carries."""
    return Append(format_subject(subject), guard_of(subject), expected, event.id, encode(event))


def check_together(entries: Sequence[Append]) -> None:
    """What `append_together` takes.

    Raises:
        ValueError: none, too many, or two of one thing.
    """
    if not 0 < len(entries) <= TOGETHER_MAX:
        raise ValueError(f"1 to {TOGETHER_MAX} events are appended together, not {len(entries)}")
    if len({each.guard for each in entries}) < len(entries):
        raise ValueError("of what is appended together, no two events may speak of one thing")


class EventLog(Protocol):
    """One fleet's log. Implementations: `MemoryLog`, `JetStreamLog`; one contract suite holds for both."""

    fleet: str

    def append(self, entry: Append) -> asyncio.Future[int]:
        """Stores the event if `expected` is still the guard's last sequence; answers its own sequence.

        An answer that is lost is settled by evidence from the log alone, for as long as it takes: the
        awaitable ends only when the event is known to be stored, or known to be refused. Cancelling the
        await (a time-out) leaves open which; the same entry may then be appended again.

        Raises:
            ConflictError: another event is the guard's last; this one was not and will not be stored.
        """
        ...

    def append_together(self, entries: Sequence[Append]) -> asyncio.Future[int]:
        """Stores all of these or none, without another event between them; answers the last one's sequence.

        No two may speak of one thing: all are checked against the state before the first. At most 1000.
        See `append` for answers that are lost. The last one tells whether all are stored: its event id must be
        of this call alone, while the others may have derived ids that another writer gives too.

        Raises:
            ConflictError: one of the guards is not at its `expected`; nothing was or will be stored.
        """
        ...

    def read(self, *, after: int = 0, subjects: str | None = None) -> AsyncIterator[list[Stored]]:
        """Messages with a sequence above `after`, in order, up to the log's end at the time of the call.

        Args:
            after: the last sequence already seen.
            subjects: a subject filter; None for everything.

        Yields:
            Non-empty lists, without gaps between them.
        """
        ...

    def follow(self, *, after: int = 0, subjects: str | None = None) -> AsyncIterator[list[Stored]]:
        """Like `read`, but goes on for ever; survives restarts of the server without a gap.

        Raises:
            LogRewound: the server came back without what was read last: what was made of it counts no more.
        """
        ...

    async def read_thing(self, guard: str) -> list[Stored]:
        """All events of one thing, at least as new as the log's leader knows at the time of the call."""
        ...

    async def get(self, seq: int) -> Stored | None:
        """The message with this sequence, from the leader; None if there is none."""
        ...

    async def last(self, subjects: str) -> Stored | None:
        """The last message that matches the filter, from the leader; None if there is none."""
        ...

    async def end(self) -> int:
        """The log's last sequence; 0 when empty."""
        ...

    async def has_lost(self, read: Stored | None = None) -> bool:
        """Whether the server came back without what was appended here last; says so once for each time.

        Args:
            read: an event that was read; whether that one is gone is said each time.
        """
        ...

    def now(self) -> datetime:
        """The log's own time, as well as this process knows it: its clock set by the server's."""
        ...
