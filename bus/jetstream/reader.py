"""Reading by pulls into a callback: a consumer without acks, two requests outstanding, a gap check.

nats-py's `fetch` and `next_msg` cost a task and a timer per message; a callback with hand-made pull requests
reads five times as fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec
from nats.aio.subscription import Subscription

from fleetlog.bus.errors import LogRewound, TransportError
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.bus.jetstream.wire import status_of
from fleetlog.schemas.envelope import Stored

PULL_COUNT: Final = 1000
PULLS_OUTSTANDING: Final = 2
HEARTBEAT_S: Final = 2.0
EXPIRES_S: Final = 30.0
_IDLE_GONE_S: Final = 60.0
_NOT_FOUND: Final = 10037
_NS: Final = 1_000_000_000
_PULL: Final = msgspec.json.encode(
    {
        "batch": PULL_COUNT,
        "expires": int(EXPIRES_S * _NS),
        "idle_heartbeat": int(HEARTBEAT_S * _NS),
    }
)


class _Created(msgspec.Struct, frozen=True):
    name: str
    num_pending: int


class _Place(msgspec.Struct, frozen=True):
    seq: int
    subject: str = ""
    time: str = ""
    data: bytes = b""


class _Next(msgspec.Struct, frozen=True):
    message: _Place


class Reader:
    """Messages of a stream in order and without a gap, from any sequence.

    Args:
        connection: to the server.
        stream: which.
        is_lasting: what was read must be there for good, as in a log.
        is_single: whether one server alone has the stream. Then what it does not have is lost; one of several
            may have just begun to lead, and only another message in the place of one that was read tells that.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        *,
        is_lasting: bool = False,
        is_single: bool = False,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._is_lasting = is_lasting
        self._is_single = is_single

    async def pages(
        self, *, after: int, subjects: str, until: int | None
    ) -> AsyncIterator[list[Stored]]:
        """Yields what came since the last page; ends at sequence `until`, if given.

        A lost consumer, a gap or a restarted server is answered by a new consumer behind the last message.

        Raises:
            LogRewound: the last message that was read is not there any more.
        """
        last: Stored | None = None
        while until is None or after < until:
            await self._connection.wait_connected()
            session = _Session(self._connection, self._stream)
            try:
                if self._is_lasting and last is not None:
                    await self._check(last)
                elif self._is_lasting and after and until is None:
                    last = await self._read(after)
                await session.open(after + 1, subjects)
                async for page in session.pages(until):
                    last = page[-1]
                    after = last.seq
                    yield page
                if session.is_complete:
                    return
            except LogRewound:
                raise
            except TransportError:
                # The next consumer starts where this one ended; `open` has waited its time-out already.
                await asyncio.sleep(0.1)
            finally:
                await session.close()

    async def _check(self, last: Stored) -> None:
        """A message that was read must still be there, and not another one in its place."""
        if not await self.has(last):
            raise LogRewound(
                f"the log does not hold event {last.seq} any more, which was read: its server came back without"
                " the last second, as durability `relaxed` allows; begin anew"
            )

    async def has(self, last: Stored) -> bool:
        """Whether a message that was read is there; of several servers, whether no other is in its place."""
        found = await self._read(last.seq)
        # By its time too: its writer may have stored the same again, at the very same place.
        return found == last or (found is None and not self._is_single)

    async def _read(self, seq: int) -> Stored | None:
        try:
            found = await self._connection.ask(
                f"$JS.API.STREAM.MSG.GET.{self._stream}", {"seq": seq}, _Next
            )
        except ApiRefusal as refusal:
            if refusal.error.err_code == _NOT_FOUND:
                return None
            raise
        message = found.message
        return Stored(seq, ns_of(message.time), message.subject, message.data)


def ns_of(text: str) -> int:
    """Nanoseconds since 1970 of the server's RFC 3339 text, exactly; Python's parser stops at microseconds."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


class _Session:
    """One ephemeral consumer."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._inbox = connection.client.new_inbox()
        self._subscription: Subscription | None = None
        self._name = ""
        self._page: list[Stored] = []
        self._arrived = asyncio.Event()
        self._consumer_seq = 0
        self._is_broken = False
        self._left = 0
        self._subjects = ""
        self._first = self._next = 0
        self.is_complete = False

    async def open(self, first: int, subjects: str) -> None:
        self._subjects, self._first, self._next = subjects, first, first
        self._connection.on_reconnect.append(self._break)
        self._subscription = await self._connection.wire.listen(self._inbox, self._on_message)
        config = {
            "name": f"read_{self._inbox[-22:]}",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "ack_policy": "none",
            "filter_subject": subjects,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(_IDLE_GONE_S * _NS),
        }
        created = await self._connection.ask(
            f"$JS.API.CONSUMER.CREATE.{self._stream}.{config['name']}.{subjects}",
            {"stream_name": self._stream, "config": config, "action": "create"},
            _Created,
        )
        self._name = created.name
        self._left = created.num_pending
        for _ in range(PULLS_OUTSTANDING):
            self._pull()

    async def pages(self, until: int | None) -> AsyncIterator[list[Stored]]:
        """Ends when it is broken, or complete up to `until`."""
        unpulled = 0
        while True:
            if until is not None and self._left <= 0 and await self._is_read(until):
                self.is_complete = True
                return
            if not self._page:
                if self._is_broken or not await self._wait():
                    return
                continue
            page, self._page = self._page, []
            self._left -= len(page)
            self._next = page[-1].seq + 1
            unpulled += len(page)
            yield page
            while unpulled >= PULL_COUNT:
                unpulled -= PULL_COUNT
                self._pull()
            if until is not None and page[-1].seq >= until:
                self.is_complete = True
                return

    async def _is_read(self, until: int) -> bool:
        """Whether nothing is left up to `until`; a consumer counts what its replica has, the leader knows."""
        if self._page:
            return False
        question = {"seq": self._next, "next_by_subj": self._subjects}
        try:
            found = await self._connection.ask(
                f"$JS.API.STREAM.MSG.GET.{self._stream}", question, _Next
            )
        except ApiRefusal as refusal:
            if refusal.error.err_code == _NOT_FOUND:
                return not self._page
            raise
        return not self._page and found.message.seq > until

    async def close(self) -> None:
        if self._break in self._connection.on_reconnect:
            self._connection.on_reconnect.remove(self._break)
        if self._subscription is not None:
            await self._connection.wire.end(self._subscription)
        if self._name:
            self._connection.wire.send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b"")

    def _pull(self) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        self._connection.wire.send(subject, _PULL, reply=self._inbox)

    async def _wait(self) -> bool:
        self._arrived.clear()
        try:
            async with asyncio.timeout(3 * HEARTBEAT_S):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def _on_message(self, subject: bytes, reply: bytes, header: bytes, data: bytes) -> None:
        self._arrived.set()
        if (status := status_of(header)) is not None:
            self._on_status(status)
            return
        *_, _delivered, stream_seq, consumer_seq, at_ns, _pending = reply.split(b".", 9)[:9]
        self._consumer_seq += 1
        if int(consumer_seq) != self._consumer_seq or self._is_broken:
            self._is_broken = True
            return
        if int(stream_seq) < self._first:
            # A replica that lags behind the wanted start begins at its own end instead (nats-server's
            # selectStartingSeqNo; not seen in a test yet).
            self._left -= 1
            return
        self._page.append(
            Stored(int(stream_seq), int(at_ns), subject.decode(errors="replace"), data)
        )

    def _on_status(self, status: str) -> None:
        if status == "408":
            self._pull()
        elif status != "100":
            self._break()

    def _break(self) -> None:
        self._is_broken = True
        self._arrived.set()
