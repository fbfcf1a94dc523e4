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
import logging
from collections import deque
from typing import Final, Literal

import msgspec

from fleetlog.bus.errors import ConflictError, TransportError
from fleetlog.bus.jetstream.append_wire import (
    CONFLICTS,
    Ack,
    check_size,
    last_of,
    occ_header,
    refusal_of,
)
from fleetlog.bus.jetstream.connection import ApiError, Connection, denial
from fleetlog.bus.jetstream.last_known import LastKnown, id_of
from fleetlog.bus.jetstream.wire import status_of
from fleetlog.bus.log import TOGETHER_MAX, Append

GROUP_MIN: Final = 16
"""From so many waiting appends on, one batch costs less than single fsynced appends."""
GROUP_MAX: Final = TOGETHER_MAX
GROUP_MAX_BYTES: Final = 4 * 1024 * 1024
IN_FLIGHT_MAX: Final = 4096
ANSWER_TIMEOUT_S: Final = 5.0
TELL_EVERY_S: Final = 60.0
NO_LEADER_PAUSE_S: Final = 0.2
EVIDENCE_PAUSE_S: Final = 0.01
EVIDENCE_ROUNDS_MAX: Final = 9
"""Doubling pauses of 10 s in all: longer than a cluster needs to agree on a new leader."""

logger = logging.getLogger("fleetlog.bus")

Question = Literal["append", "evidence"]


class _Found(msgspec.Struct, frozen=True):
    seq: int
    data: bytes


class _Evidence(msgspec.Struct, frozen=True):
    message: _Found | None = None
    error: ApiError | None = None


_ack_decoder: Final = msgspec.json.Decoder(Ack)
_evidence_decoder: Final = msgspec.json.Decoder(_Evidence)


class _Pending:
    """One append until it is settled."""

    __slots__ = ("drop_count", "entry", "future", "is_alone", "question", "rounds", "sent_at")

    def __init__(self, entry: Append, future: asyncio.Future[int], drop_count: int) -> None:
        self.entry = entry
        self.drop_count = drop_count
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
        known: what is kept of the last one that was stored.
        is_grouping: whether many waiting appends leave as atomic batches. Worth it on one replica under
            `sync_interval: always`, where a batch costs one fsync; elsewhere singles are faster.
        is_single: whether one server alone has the log. Then what it says is older than `expected` tells that
            it has lost its last second; one of several may only lag.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        known: LastKnown,
        *,
        is_grouping: bool,
        is_single: bool = False,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._is_grouping = is_grouping
        self._is_single = is_single
        self._inbox = connection.client.new_inbox()
        self._queue: deque[_Pending] = deque()
        self._in_flight: dict[str, _Pending | _Batch] = {}
        self._batches_in_flight = 0
        self._count = 0
        self._told_at = -TELL_EVERY_S
        self._known = known
        self._is_sending_soon = False
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Subscribes to the answers; call once before the first append."""
        await self._connection.wire.listen(f"{self._inbox}.*", self._on_answer)
        self._connection.on_reconnect.append(self._on_reconnect)
        self._connection.hold.on_lift.append(self._on_lift)
        self._connection.on_denied.append(self._on_denied)

    def append(self, entry: Append) -> asyncio.Future[int]:
        """See `EventLog.append`."""
        future: asyncio.Future[int] = self._loop.create_future()
        try:
            check_size(entry, self._connection)
        except TransportError as error:
            future.set_exception(error)
        else:
            self._enqueue(_Pending(entry, future, self._connection.hold.drop_count))
        return future

    async def watch(self) -> None:
        """Sends again what got no answer in time, until cancelled."""
        while True:
            await asyncio.sleep(ANSWER_TIMEOUT_S / 5)
            overdue = self._loop.time() - ANSWER_TIMEOUT_S
            late = [token for token, what in self._in_flight.items() if what.sent_at < overdue]
            for token in late:
                self._again_by(token)
            if late:
                self._tell_of_silence(len(late))

    def _tell_of_silence(self, count: int) -> None:
        now = self._loop.time()
        if self._connection.is_connected and now - self._told_at > TELL_EVERY_S:
            self._told_at = now
            logger.warning(
                "the server is there but answered no append for %g s (%d go again): has its disk room, has the"
                " stream a leader? See the server's log",
                *(ANSWER_TIMEOUT_S, count),
            )

    def _enqueue(self, pending: _Pending) -> None:
        if not pending.future.done():
            self._queue.append(pending)
            if self._is_dropped(pending):
                pending.question = "evidence"
            self._send_soon()

    def _is_dropped(self, pending: _Pending) -> bool:
        """Whether the log has lost what it followed from: not sent again, though it may be stored."""
        return pending.entry.expected > 0 and pending.drop_count < self._connection.hold.drop_count

    def _on_lift(self) -> None:
        for pending in filter(self._is_dropped, self._queue):
            pending.question = "evidence"
        self._send_soon()

    def _send_soon(self) -> None:
        # Once per loop turn, so that what is appended together is sent, or grouped, together.
        if not self._is_sending_soon:
            self._is_sending_soon = True
            self._loop.call_soon(self._send_waiting)

    def _send_waiting(self) -> None:
        self._is_sending_soon = False
        send_next = self._send_grouped if self._is_grouping else self._send_one
        if self._connection.may_append:
            while self._queue and send_next():
                pass

    def _send_one(self) -> bool:
        """Sends a single; False when enough are in flight."""
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            return False
        self._send_single(self._queue.popleft())
        return True

    def _send_grouped(self) -> bool:
        """Sends one batch or one single; False when what waits had better wait for more."""
        if self._queue[0].is_alone or self._queue[0].question == "evidence":
            return self._send_one()
        if self._batches_in_flight:
            return False
        if len(self._queue) >= GROUP_MIN:
            members = self._take_group()
            if len(members) > 1:
                self._send_batch(members)
                return True
            self._queue.extendleft(members)
        if len(self._in_flight) >= GROUP_MIN:
            return False
        return self._send_one()

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

    def _send_single(self, pending: _Pending) -> None:
        if pending.future.done():
            return
        reply = f"{self._inbox}.{self._token(pending)}"
        pending.sent_at = self._loop.time()
        entry = pending.entry
        if pending.question == "evidence":
            question = {"seq": entry.expected + 1, "next_by_subj": entry.guard}
            subject = self._subject_of(pending)
            self._connection.wire.send(subject, msgspec.json.encode(question), reply=reply)
        else:
            header = f"NATS/1.0\r\n{occ_header(entry)}\r\n".encode()
            self._connection.wire.send(entry.subject, entry.data, reply=reply, header=header)

    def _subject_of(self, pending: _Pending) -> str:
        if pending.question == "evidence":
            return f"$JS.API.STREAM.MSG.GET.{self._stream}"
        return pending.entry.subject

    def _send_batch(self, members: list[_Pending]) -> None:
        batch = _Batch(members, self._loop.time())
        token = self._token(batch)
        self._batches_in_flight += 1
        batch_id = f"{self._inbox[-22:]}-{token}"
        last = len(members)
        for number, pending in enumerate(members, 1):
            entry = pending.entry
            commit = "Nats-Batch-Commit: 1\r\n" if number == last else ""
            header = (
                f"NATS/1.0\r\n{occ_header(entry)}Nats-Batch-Id: {batch_id}\r\n"
                f"Nats-Batch-Sequence: {number}\r\n{commit}\r\n"
            )
            reply = f"{self._inbox}.{token}" if commit else ""
            self._connection.wire.send(
                entry.subject, entry.data, reply=reply, header=header.encode()
            )

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

    def _on_answer(self, subject: bytes, _reply: bytes, header: bytes, data: bytes) -> None:
        what = self._drop(subject[subject.rindex(b".") + 1 :].decode())
        if self._queue:
            self._send_soon()
        if what is None:
            return
        if header and status_of(header) == "503":
            self._loop.call_later(NO_LEADER_PAUSE_S, self._again, what)
        elif isinstance(what, _Batch):
            self._on_batch_answer(what, _ack_decoder.decode(data))
        elif what.question == "evidence":
            self._on_evidence(what, _evidence_decoder.decode(data))
        else:
            self._on_ack(what, _ack_decoder.decode(data))

    def _on_ack(self, pending: _Pending, ack: Ack) -> None:
        if ack.error is None:
            self._settle(pending, ack.seq)
        elif self._is_single and last_of(ack.error) < pending.entry.expected:
            # Not sent again: some day another event of this thing might stand at that very sequence.
            _fail(pending, ConflictError(f"the log has lost event {pending.entry.expected}"))
        elif ack.error.err_code in CONFLICTS:
            pending.question = "evidence"
            self._enqueue(pending)
        else:
            _fail(pending, refusal_of(ack.error, self._stream))

    def _on_batch_answer(self, batch: _Batch, ack: Ack) -> None:
        if ack.error is not None:
            # The answer does not say which member failed; nothing of the batch is stored.
            self._scatter(batch)
            return
        first = ack.seq - len(batch.members) + 1
        for offset, pending in enumerate(batch.members):
            self._settle(pending, first + offset)

    def _on_evidence(self, pending: _Pending, evidence: _Evidence) -> None:
        pending.question = "append"
        pending.is_alone = True
        winner = evidence.message
        if winner is None:
            self._without_evidence(pending)
        elif id_of(winner.data) == pending.entry.event_id:
            self._settle(pending, winner.seq)
        else:
            self._known.note_read(winner.seq, winner.data)
            _fail(
                pending,
                ConflictError(
                    f"{pending.entry.guard} has event {winner.seq} after {pending.entry.expected}"
                ),
            )

    def _without_evidence(self, pending: _Pending) -> None:
        if self._is_dropped(pending):
            _fail(pending, ConflictError(f"the log has lost what {pending.entry.guard} was at"))
            return
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

    def _settle(self, pending: _Pending, seq: int) -> None:
        self._known.note(seq, pending.entry.event_id)
        if not pending.future.done():
            pending.future.set_result(seq)

    def _on_reconnect(self) -> None:
        for token in list(self._in_flight):
            self._again_by(token)
        self._send_soon()

    def _on_denied(self, denied: str) -> None:
        # The server answers nothing else to what it does not let through: without this, it went again for ever.
        for token, what in list(self._in_flight.items()):
            if isinstance(what, _Batch):
                if any(pending.entry.subject.lower() == denied for pending in what.members):
                    self._again_by(token)
            elif self._subject_of(what).lower() == denied:
                self._drop(token)
                _fail(what, denial(self._subject_of(what)))

    def _again_by(self, token: str) -> None:
        what = self._drop(token)
        if what is not None:
            self._again(what)


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)
