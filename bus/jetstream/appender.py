"""Appending: pipelined over one reply inbox, grouped into atomic batches where each fsync counts.

The life of one append:

    queued ─► sent ─► stored                          its future has the sequence
                ├──► refused (10071, 10164) ─► asked  who took the place after `expected`?
                └──► no answer ─► queued again           ours ─► stored · another ─► ConflictError
                                                         nobody ─► queued again

Exactly one event can follow `expected` on a guard. So the first event after it, read through the leader, is
the evidence: it is ours or it is another's. "Not found" is no evidence, and a missing answer is none either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Literal

import msgspec
from nats.aio.msg import Msg

from fleetlog.bus.errors import ConflictError, TransportError, Unavailable
from fleetlog.bus.jetstream.connection import ApiError, ApiRefusal, Connection
from fleetlog.bus.log import Append

GROUP_MIN: Final = 16
"""From so many waiting appends on, one batch costs less than single fsynced appends."""
GROUP_MAX: Final = 1000
"""The server's limit for an atomic batch."""
GROUP_MAX_BYTES: Final = 4 * 1024 * 1024
IN_FLIGHT_MAX: Final = 4096
ANSWER_TIMEOUT_S: Final = 5.0
NO_LEADER_PAUSE_S: Final = 0.2
EVIDENCE_PAUSE_S: Final = 0.01
EVIDENCE_ROUNDS_MAX: Final = 9
"""Doubling pauses of 10 s in all: longer than a cluster needs to agree on a new leader."""

_CONFLICTS: Final = frozenset({10071, 10164})
_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
_GUARD: Final = "Nats-Expected-Last-Subject-Sequence-Subject"

Question = Literal["append", "evidence"]


class _Ack(msgspec.Struct, frozen=True):
    seq: int = 0
    error: ApiError | None = None


class _Found(msgspec.Struct, frozen=True):
    seq: int
    data: bytes


class _Evidence(msgspec.Struct, frozen=True):
    message: _Found | None = None
    error: ApiError | None = None


class _EventId(msgspec.Struct, frozen=True):
    id: str = ""


class _Pending:
    """One append until it is settled."""

    __slots__ = ("entry", "future", "is_alone", "question", "rounds", "sent_at")

    def __init__(self, entry: Append, future: asyncio.Future[int]) -> None:
        self.entry = entry
        self.future = future
        self.question: Question = "append"
        self.is_alone = False
        self.rounds = 0
        self.sent_at = 0.0


class _Batch:
    """Appends that travel as one atomic batch."""

    __slots__ = ("members", "sent_at")

    def __init__(self, members: list[_Pending], sent_at: float) -> None:
        self.members = members
        self.sent_at = sent_at


class Appender:
    """Sends appends and settles each by positive evidence.

    Args:
        connection: to the server.
        stream: the log's name.
        is_grouping: whether many waiting appends leave as atomic batches. Worth it on one replica under
            `sync_interval: always`, where a batch costs one fsync; elsewhere singles are faster.
    """

    def __init__(self, connection: Connection, stream: str, *, is_grouping: bool) -> None:
        self._connection = connection
        self._stream = stream
        self._is_grouping = is_grouping
        self._inbox = connection.client.new_inbox()
        self._queue: deque[_Pending] = deque()
        self._in_flight: dict[str, _Pending | _Batch] = {}
        self._batches_in_flight = 0
        self._count = 0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Subscribes to the answers; call once before the first append."""
        await self._connection.subscribe(f"{self._inbox}.*", self._on_answer)
        self._connection.on_reconnect.append(self._on_reconnect)

    def append(self, entry: Append) -> asyncio.Future[int]:
        """See `EventLog.append`."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._enqueue(_Pending(entry, future))
        return future

    async def run(self) -> None:
        """Sends what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._connection.wait_connected()
            await self._send_waiting()

    async def watch(self) -> None:
        """Sends again what got no answer in time, until cancelled."""
        while True:
            await asyncio.sleep(ANSWER_TIMEOUT_S / 5)
            overdue = self._loop.time() - ANSWER_TIMEOUT_S
            for token, what in list(self._in_flight.items()):
                if what.sent_at < overdue:
                    self._again_by(token)

    def _enqueue(self, pending: _Pending) -> None:
        if not pending.future.done():
            self._queue.append(pending)
        self._wake.set()

    async def _send_waiting(self) -> None:
        while self._queue and self._connection.is_connected:
            if not self._is_grouping:
                if len(self._in_flight) >= IN_FLIGHT_MAX:
                    return
                await self._send_single(self._queue.popleft())
            elif not await self._send_grouped():
                return

    async def _send_grouped(self) -> bool:
        """Sends one batch or one single; False when what waits had better wait for more."""
        if self._queue[0].is_alone or self._queue[0].question == "evidence":
            await self._send_single(self._queue.popleft())
            return True
        if self._batches_in_flight:
            return False
        if len(self._queue) >= GROUP_MIN:
            members = self._take_group()
            if len(members) > 1:
                await self._send_batch(members)
                return True
            self._queue.extendleft(members)
        if len(self._in_flight) >= GROUP_MIN:
            return False
        await self._send_single(self._queue.popleft())
        return True

    def _take_group(self) -> list[_Pending]:
        """Up to a batch of waiting appends, at most one for each guard; the others keep their order."""
        members: list[_Pending] = []
        others: list[_Pending] = []
        guards: set[str] = set()
        size_bytes = 0
        while self._queue and len(members) < GROUP_MAX and size_bytes < GROUP_MAX_BYTES:
            pending = self._queue.popleft()
            if pending.future.done():
                continue
            # The checks of a batch all run against the state before it: two appends to one thing would both
            # pass. What has been refused or asked about goes alone.
            if pending.entry.guard in guards or pending.is_alone or pending.question == "evidence":
                others.append(pending)
                continue
            guards.add(pending.entry.guard)
            size_bytes += len(pending.entry.data)
            members.append(pending)
        self._queue.extendleft(reversed(others))
        return members

    async def _send_single(self, pending: _Pending) -> None:
        if pending.future.done():
            return
        token = self._token(pending)
        pending.sent_at = self._loop.time()
        entry = pending.entry
        if pending.question == "evidence":
            question = {"seq": entry.expected + 1, "next_by_subj": entry.guard}
            await self._publish(
                pending,
                f"$JS.API.STREAM.MSG.GET.{self._stream}",
                msgspec.json.encode(question),
                token,
            )
        else:
            await self._publish(pending, entry.subject, entry.data, token, _headers(entry))

    async def _publish(
        self,
        pending: _Pending,
        subject: str,
        data: bytes,
        token: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        try:
            await self._connection.publish(
                subject, data, reply=f"{self._inbox}.{token}", headers=headers
            )
        except Unavailable:
            self._in_flight.pop(token, None)
            self._enqueue(pending)
            await asyncio.sleep(NO_LEADER_PAUSE_S)
        except TransportError as error:
            self._in_flight.pop(token, None)
            _fail(pending, error)

    async def _send_batch(self, members: list[_Pending]) -> None:
        batch = _Batch(members, self._loop.time())
        token = self._token(batch)
        self._batches_in_flight += 1
        batch_id = f"{self._inbox[-22:]}-{token}"
        try:
            for number, pending in enumerate(members, 1):
                headers = _headers(pending.entry)
                headers["Nats-Batch-Id"] = batch_id
                headers["Nats-Batch-Sequence"] = str(number)
                is_last = number == len(members)
                if is_last:
                    headers["Nats-Batch-Commit"] = "1"
                await self._connection.publish(
                    pending.entry.subject,
                    pending.entry.data,
                    reply=f"{self._inbox}.{token}" if is_last else "",
                    headers=headers,
                )
        except TransportError:
            # One message too large, or the connection went: each goes again by itself and says so then.
            self._drop(token)
            self._scatter(batch)

    def _token(self, what: _Pending | _Batch) -> str:
        self._count += 1
        token = str(self._count)
        self._in_flight[token] = what
        return token

    def _drop(self, token: str) -> _Pending | _Batch | None:
        what = self._in_flight.pop(token, None)
        if isinstance(what, _Batch):
            self._batches_in_flight -= 1
        return what

    async def _on_answer(self, message: Msg) -> None:
        what = self._drop(message.subject.rpartition(".")[2])
        self._wake.set()
        if what is None:
            return
        if message.headers and message.headers.get("Status") == "503":
            self._loop.call_later(NO_LEADER_PAUSE_S, self._again, what)
        elif isinstance(what, _Batch):
            self._on_batch_answer(what, msgspec.json.decode(message.data, type=_Ack))
        elif what.question == "evidence":
            self._on_evidence(what, msgspec.json.decode(message.data, type=_Evidence))
        else:
            self._on_ack(what, msgspec.json.decode(message.data, type=_Ack))

    def _on_ack(self, pending: _Pending, ack: _Ack) -> None:
        if ack.error is None:
            _settle(pending, ack.seq)
        elif ack.error.err_code in _CONFLICTS:
            pending.question = "evidence"
            self._enqueue(pending)
        else:
            _fail(pending, ApiRefusal(ack.error))

    def _on_batch_answer(self, batch: _Batch, ack: _Ack) -> None:
        if ack.error is not None:
            # The answer does not say which member failed; nothing of the batch is stored.
            self._scatter(batch)
            return
        first = ack.seq - len(batch.members) + 1
        for offset, pending in enumerate(batch.members):
            _settle(pending, first + offset)

    def _on_evidence(self, pending: _Pending, evidence: _Evidence) -> None:
        pending.question = "append"
        pending.is_alone = True
        winner = evidence.message
        if winner is None:
            self._without_evidence(pending)
        elif _id_of(winner.data) == pending.entry.event_id:
            _settle(pending, winner.seq)
        else:
            _fail(
                pending,
                ConflictError(
                    f"{pending.entry.guard} has event {winner.seq} after {pending.entry.expected}"
                ),
            )

    def _without_evidence(self, pending: _Pending) -> None:
        # Refused, yet nothing follows `expected`: another write is on its way (a replicated stream says so),
        # or the log no longer has `expected` because a server without fsync lost its last second.
        pending.rounds += 1
        if pending.rounds > EVIDENCE_ROUNDS_MAX:
            _fail(
                pending, ConflictError(f"{pending.entry.guard} is not at {pending.entry.expected}")
            )
        else:
            pause_s = EVIDENCE_PAUSE_S * 2**pending.rounds
            self._loop.call_later(pause_s, self._enqueue, pending)

    def _scatter(self, batch: _Batch) -> None:
        for pending in batch.members:
            pending.is_alone = True
            self._enqueue(pending)

    def _again(self, what: _Pending | _Batch) -> None:
        if isinstance(what, _Batch):
            self._scatter(what)
        else:
            what.is_alone = True
            self._enqueue(what)

    def _on_reconnect(self) -> None:
        for token in list(self._in_flight):
            self._again_by(token)

    def _again_by(self, token: str) -> None:
        what = self._drop(token)
        if what is not None:
            self._again(what)


def _headers(entry: Append) -> dict[str, str]:
    return {_SEQUENCE: str(entry.expected), _GUARD: entry.guard}


def _settle(pending: _Pending, seq: int) -> None:
    if not pending.future.done():
        pending.future.set_result(seq)


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)


def _id_of(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_EventId).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
