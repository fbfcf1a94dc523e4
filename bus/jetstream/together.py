"""Appending several events, all or none: one atomic batch, sent again until its fate is known.

A batch stores all or nothing, so that its last event found in the log tells of all of them; and exactly one
event can follow `expected` on a guard. Seldom enough, and few enough at once, for a coroutine each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from fleetlog.bus.errors import ConflictError
from fleetlog.bus.jetstream.append_wire import CONFLICTS, Ack, check_size, occ_header, refusal_of
from fleetlog.bus.jetstream.appender import (
    ANSWER_TIMEOUT_S,
    EVIDENCE_PAUSE_S,
    EVIDENCE_ROUNDS_MAX,
    NO_LEADER_PAUSE_S,
)
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection, denial
from fleetlog.bus.jetstream.last_known import LastKnown, id_of
from fleetlog.bus.jetstream.wire import status_of
from fleetlog.bus.log import Append, check_together

_NOT_FOUND: Final = 10037
_TRY_AGAIN: Final = frozenset({10176, 10210})
"""Incomplete, as the server restarted in its midst; too many batches at once."""

_ack_decoder: Final = msgspec.json.Decoder(Ack)


class _Found(msgspec.Struct, frozen=True):
    seq: int
    data: bytes


class _Got(msgspec.Struct, frozen=True):
    message: _Found


class Together:
    """Sends batches and settles each by positive evidence.

    Args:
        connection: to the server.
        stream: the log's name.
        known: what is kept of the last one that was stored.
    """

    def __init__(self, connection: Connection, stream: str, known: LastKnown) -> None:
        self._connection = connection
        self._stream = stream
        self._known = known
        self._inbox = connection.client.new_inbox()
        self._answers: dict[str, asyncio.Future[Ack | None]] = {}
        self._subjects: dict[str, frozenset[str]] = {}
        self._count = 0
        self._under_way: set[asyncio.Task[int]] = set()

    async def start(self) -> None:
        """Subscribes to the answers; call once before the first append."""
        await self._connection.wire.listen(f"{self._inbox}.*", self._on_answer)
        self._connection.on_reconnect.append(self._on_reconnect)
        self._connection.on_denied.append(self._on_denied)

    def append(self, entries: Sequence[Append]) -> asyncio.Future[int]:
        """See `EventLog.append_together`."""
        check_together(entries)
        appending = asyncio.ensure_future(self._append(entries))
        self._under_way.add(appending)
        appending.add_done_callback(self._under_way.discard)
        return appending

    async def _append(self, entries: Sequence[Append]) -> int:
        seq = await self._settled(entries)
        self._known.note(seq, entries[-1].event_id)
        return seq

    async def _settled(self, entries: Sequence[Append]) -> int:
        check_size(max(entries, key=lambda each: len(each.data)), self._connection)
        is_unclear, rounds = False, 0
        while True:
            while not self._connection.may_append:
                await self._connection.wait_connected()
                await self._connection.hold.lifted()
            ack = await self._send(entries)
            if ack is None:
                is_unclear = True
                await asyncio.sleep(NO_LEADER_PAUSE_S)
            elif ack.error is None:
                return ack.seq
            elif ack.error.err_code in _TRY_AGAIN:
                await asyncio.sleep(NO_LEADER_PAUSE_S)
            elif ack.error.err_code not in CONFLICTS:
                raise refusal_of(ack.error, self._stream)
            else:
                # Of the last: the others may have ids that another writer has given to the same decision.
                seq = await self._evidence(entries[-1])
                if seq is not None:
                    return seq
                # Its guard stands: another one does not, or what was sent before is still on its way.
                rounds += 1
                if not is_unclear or rounds > EVIDENCE_ROUNDS_MAX:
                    raise ConflictError("one of what was appended together was too late")
                await asyncio.sleep(EVIDENCE_PAUSE_S * 2**rounds)

    async def _send(self, entries: Sequence[Append]) -> Ack | None:
        """The server's answer; None if there is none, which tells nothing."""
        self._count += 1
        token = str(self._count)
        batch_id = f"{self._inbox[-22:]}-{token}"
        answer: asyncio.Future[Ack | None] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        self._subjects[token] = frozenset(each.subject.lower() for each in entries)
        for number, each in enumerate(entries, 1):
            is_last = number == len(entries)
            header = (
                f"NATS/1.0\r\n{occ_header(each)}Nats-Batch-Id: {batch_id}\r\n"
                f"Nats-Batch-Sequence: {number}\r\n"
                + ("Nats-Batch-Commit: 1\r\n\r\n" if is_last else "\r\n")
            )
            reply = f"{self._inbox}.{token}" if is_last else ""
            self._connection.wire.send(each.subject, each.data, reply=reply, header=header.encode())
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._answers.pop(token, None)
            self._subjects.pop(token, None)

    async def _evidence(self, entry: Append) -> int | None:
        """Where the entry stands; None while nothing follows `expected`.

        Raises:
            ConflictError: another event follows.
        """
        question = {"seq": entry.expected + 1, "next_by_subj": entry.guard}
        try:
            got = await self._connection.ask(
                f"$JS.API.STREAM.MSG.GET.{self._stream}", question, _Got
            )
        except ApiRefusal as refusal:
            if refusal.error.err_code == _NOT_FOUND:
                return None
            raise
        if id_of(got.message.data) == entry.event_id:
            return got.message.seq
        self._known.note_read(got.message.seq, got.message.data)
        raise ConflictError(f"{entry.guard} has event {got.message.seq} after {entry.expected}")

    def _on_answer(self, subject: bytes, _reply: bytes, header: bytes, data: bytes) -> None:
        answer = self._answers.get(subject[subject.rindex(b".") + 1 :].decode())
        if answer is not None and not answer.done():
            answer.set_result(None if status_of(header) == "503" else _ack_decoder.decode(data))

    def _on_reconnect(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)

    def _on_denied(self, denied: str) -> None:
        # The server answers nothing else: without this, the batch went again for ever.
        for token, subjects in self._subjects.items():
            answer = self._answers[token]
            if denied.lower() in subjects and not answer.done():
                answer.set_exception(denial(denied))
