"""The log on a JetStream stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from fleetlog.bus.errors import Unavailable
from fleetlog.bus.jetstream.appender import Appender
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.bus.jetstream.last_known import LastKnown, id_of
from fleetlog.bus.jetstream.reader import Reader, ns_of
from fleetlog.bus.jetstream.together import Together
from fleetlog.bus.log import Append
from fleetlog.schemas import subjects as grammar
from fleetlog.schemas.envelope import Stored

_NOT_FOUND: Final = 10037
_DIRECT_COUNT: Final = 1000
_DIRECT_TIMEOUT_S: Final = 5.0
_LAG_PAUSE_S: Final = 0.02


class _Message(msgspec.Struct, frozen=True):
    subject: str
    seq: int
    time: str
    data: bytes = b""


class _Got(msgspec.Struct, frozen=True):
    message: _Message


class _State(msgspec.Struct, frozen=True):
    last_seq: int


class _StreamInfo(msgspec.Struct, frozen=True):
    state: _State


class JetStreamLog:
    """An `EventLog` on a NATS server."""

    def __init__(
        self, connection: Connection, fleet: str, *, is_grouping: bool, is_single: bool = False
    ) -> None:
        self.fleet = fleet
        self._connection = connection
        self._stream = grammar.stream_names(fleet)[0]
        self._known = known = LastKnown(connection.hold)
        connection.on_reconnect.append(known.doubt)
        self.appender = Appender(
            connection, self._stream, known, is_grouping=is_grouping, is_single=is_single
        )
        self.together = Together(connection, self._stream, known)
        self._is_single = is_single
        self._reader = Reader(connection, self._stream, is_lasting=True, is_single=is_single)

    def append(self, entry: Append) -> asyncio.Future[int]:
        """See `EventLog`."""
        return self.appender.append(entry)

    def append_together(self, entries: Sequence[Append]) -> asyncio.Future[int]:
        """See `EventLog`."""
        return self.together.append(entries)

    async def read(
        self, *, after: int = 0, subjects: str | None = None
    ) -> AsyncIterator[list[Stored]]:
        """See `EventLog`."""
        end = await self.end()
        subjects = subjects or grammar.everything(self.fleet)
        async for page in self._reader.pages(after=after, subjects=subjects, until=end):
            yield page

    async def follow(
        self, *, after: int = 0, subjects: str | None = None
    ) -> AsyncIterator[list[Stored]]:
        """See `EventLog`."""
        subjects = subjects or grammar.everything(self.fleet)
        async for page in self._reader.pages(after=after, subjects=subjects, until=None):
            yield page

    async def read_thing(self, guard: str) -> list[Stored]:
        """See `EventLog`."""
        found: list[Stored] = []
        while True:
            found += await self._direct(guard, after=found[-1].seq if found else 0)
            # A direct get may come from a replica that lags; the leader says what the last one is.
            last = await self.last(guard)
            if last is None or (found and found[-1].seq >= last.seq):
                return found
            await asyncio.sleep(_LAG_PAUSE_S if found else 0)

    async def get(self, seq: int) -> Stored | None:
        """See `EventLog`."""
        return await self._message({"seq": seq})

    async def last(self, subjects: str) -> Stored | None:
        """See `EventLog`."""
        return await self._message({"last_by_subj": subjects})

    async def end(self) -> int:
        """See `EventLog`."""
        info = await self._connection.ask(f"$JS.API.STREAM.INFO.{self._stream}", None, _StreamInfo)
        return info.state.last_seq

    async def has_lost(self, read: Stored | None = None) -> bool:
        """See `EventLog`."""
        if read is not None and not await self._reader.has(read):
            self._known.forget()
            return True
        doubtful = self._known.doubtful
        while doubtful:
            asked = seq, event_id = doubtful[0]
            found = await self.get(seq)
            # One of several servers may have just begun to lead and not have it yet.
            is_there = not self._is_single if found is None else id_of(found.data) == event_id
            if not is_there:
                self._known.forget()
                return True
            if asked in doubtful:  # another who asked may have been faster
                doubtful.remove(asked)
        return False

    def now(self) -> datetime:
        """See `EventLog`."""
        return self._connection.now()

    async def _message(self, which: dict[str, Any]) -> Stored | None:
        try:
            got = await self._connection.ask(f"$JS.API.STREAM.MSG.GET.{self._stream}", which, _Got)
        except ApiRefusal as refusal:
            if refusal.error.err_code == _NOT_FOUND:
                return None
            raise
        message = got.message
        self._known.note_read(message.seq, message.data)
        return Stored(message.seq, ns_of(message.time), message.subject, message.data)

    async def _direct(self, subjects: str, after: int) -> list[Stored]:
        """Messages of a filter above `after`, as one replica has them, a thousand in one round trip.

        All of them, or those before the first that was lost on the way.
        """
        found: list[Stored] = []
        is_whole = True
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def on_message(message: Msg) -> None:
            nonlocal is_whole
            headers = message.headers or {}
            if "Status" in headers:
                if not done.done():
                    done.set_result(None)
                return
            # Each names the one before it. With one missing, a later one would lead to a state that never was.
            is_whole &= int(headers["Nats-Last-Sequence"]) == (found[-1].seq if found else 0)
            if not is_whole:
                return
            found.append(
                Stored(
                    int(headers["Nats-Sequence"]),
                    ns_of(headers["Nats-Time-Stamp"]),
                    headers["Nats-Subject"],
                    message.data,
                )
            )

        inbox = self._connection.client.new_inbox()
        subscription = await self._connection.subscribe(inbox, on_message)
        request = {"seq": after + 1, "batch": _DIRECT_COUNT, "next_by_subj": subjects}
        try:
            await self._connection.publish(
                f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(request), reply=inbox
            )
            async with asyncio.timeout(_DIRECT_TIMEOUT_S):
                await done
        except TimeoutError as error:
            raise Unavailable("the log does not answer: is the server up?") from error
        finally:
            if not self._connection.client.is_closed:
                await subscription.unsubscribe()
        if is_whole and len(found) == _DIRECT_COUNT:
            found += await self._direct(subjects, found[-1].seq)
        return found
