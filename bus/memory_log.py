"""The log in memory: the same rules as the real one, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from fleetlog.bus.errors import ConflictError
from fleetlog.bus.log import Append, check_together
from fleetlog.bus.system import Clock, SystemClock
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.subjects import guard_of, parse_subject

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryLog:
    """An `EventLog` that lives as long as the process. One event loop at a time."""

    def __init__(self, fleet: str = "main", clock: Clock | None = None) -> None:
        self.fleet = fleet
        self._clock = clock or SystemClock()
        self._messages: list[Stored] = []
        self._things: dict[str, list[Stored]] = {}
        self._grown = asyncio.Event()

    def append(self, entry: Append) -> asyncio.Future[int]:
        """See `EventLog`."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if entry.guard != guard_of(parse_subject(entry.subject)):
            raise ValueError(f"guard {entry.guard} does not belong to {entry.subject}")
        thing = self._things.setdefault(entry.guard, [])
        if (thing[-1].seq if thing else 0) == entry.expected:
            answer.set_result(self._store(entry, thing))
            return answer
        winner = next((stored for stored in thing if stored.seq > entry.expected), None)
        if winner is not None and _event_id(winner) == entry.event_id:
            answer.set_result(winner.seq)
        else:
            answer.set_exception(ConflictError(f"{entry.guard} is not at {entry.expected}"))
        return answer

    def append_together(self, entries: Sequence[Append]) -> asyncio.Future[int]:
        """See `EventLog`."""
        check_together(entries)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        things = [self._things.setdefault(each.guard, []) for each in entries]
        if all(
            (thing[-1].seq if thing else 0) == each.expected
            for each, thing in zip(entries, things, strict=True)
        ):
            stored = [self._store(each, thing) for each, thing in zip(entries, things, strict=True)]
            answer.set_result(stored[-1])
            return answer
        winner = next((each for each in things[-1] if each.seq > entries[-1].expected), None)
        if winner is not None and _event_id(winner) == entries[-1].event_id:
            answer.set_result(winner.seq)
        else:
            answer.set_exception(ConflictError("one of what was appended together was too late"))
        return answer

    async def read(
        self, *, after: int = 0, subjects: str | None = None
    ) -> AsyncIterator[list[Stored]]:
        """See `EventLog`."""
        if found := self._matching(after, subjects):
            yield found

    async def follow(
        self, *, after: int = 0, subjects: str | None = None
    ) -> AsyncIterator[list[Stored]]:
        """See `EventLog`."""
        while True:
            grown = self._grown
            found = self._matching(after, subjects)
            after = len(self._messages)
            if found:
                yield found
            if len(self._messages) == after:
                await grown.wait()

    async def read_thing(self, guard: str) -> list[Stored]:
        """See `EventLog`."""
        return list(self._things.get(guard, ()))

    async def get(self, seq: int) -> Stored | None:
        """See `EventLog`."""
        return self._messages[seq - 1] if 0 < seq <= len(self._messages) else None

    async def last(self, subjects: str) -> Stored | None:
        """See `EventLog`."""
        return next((s for s in reversed(self._messages) if is_match(subjects, s.subject)), None)

    async def end(self) -> int:
        """See `EventLog`."""
        return len(self._messages)

    async def has_lost(self, read: Stored | None = None) -> bool:
        """See `EventLog`."""
        return read is not None and await self.get(read.seq) != read

    def now(self) -> datetime:
        """See `EventLog`."""
        return self._clock.now()

    def _store(self, entry: Append, thing: list[Stored]) -> int:
        since = self._clock.now() - _EPOCH
        at_ns = (
            since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
        ) * 1000
        stored = Stored(len(self._messages) + 1, at_ns, entry.subject, entry.data)
        self._messages.append(stored)
        thing.append(stored)
        self._grown.set()
        self._grown = asyncio.Event()
        return stored.seq

    def _matching(self, after: int, subjects: str | None) -> list[Stored]:
        later = self._messages[after:]
        return later if subjects is None else [s for s in later if is_match(subjects, s.subject)]


def is_match(subjects: str, subject: str) -> bool:
    """Whether a NATS subject filter (`*` one token, `>` the rest) covers a subject."""
    wanted, tokens = subjects.split("."), subject.split(".")
    for position, want in enumerate(wanted):
        if want == ">":
            return len(tokens) > position
        if position >= len(tokens) or want not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


def _event_id(stored: Stored) -> str | None:
    return getattr(open_stored(stored).event, "id", None)
