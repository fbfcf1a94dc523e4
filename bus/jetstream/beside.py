"""Beats, output and hints on NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from nats.aio.msg import Msg

from fleetlog.bus.beside import StoredCoordinatorBeat
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.bus.jetstream.reader import Reader
from fleetlog.schemas import subjects
from fleetlog.schemas.beats import Beat, CoordinatorBeat, OutputChunk, StoredBeat
from fleetlog.schemas.events import Instant


class _Message(msgspec.Struct, frozen=True):
    time: Instant
    data: bytes = b""


class _Got(msgspec.Struct, frozen=True):
    message: _Message


class _State(msgspec.Struct, frozen=True):
    last_seq: int


class _Info(msgspec.Struct, frozen=True):
    state: _State
    created: Instant


class NatsBeats:
    """See `fleetlog.bus.beside.Beats`."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self._connection = connection
        self._fleet = fleet
        self._stream = subjects.stream_names(fleet)[1]

    def publish(self, beat: Beat | CoordinatorBeat) -> None:
        """See `Beats`."""
        if isinstance(beat, Beat):
            subject = subjects.beats(self._fleet, beat.agent_id)
        else:
            subject = subjects.coordinator_beats(self._fleet)
        self._connection.wire.send(subject, msgspec.json.encode(beat))

    @asynccontextmanager
    async def listen(self, heard: Callable[[Beat | CoordinatorBeat], None]) -> AsyncIterator[None]:
        """See `Beats`."""
        own = subjects.coordinator_beats(self._fleet).encode()

        def on_message(subject: bytes, _reply: bytes, _header: bytes, data: bytes) -> None:
            beat = _decode_coordinator(data) if subject == own else _decode_beat(data)
            if beat is not None:
                heard(beat)

        wire = self._connection.wire
        subscription = await wire.listen(subjects.beats(self._fleet), on_message)
        try:
            yield
        finally:
            await wire.end(subscription)

    async def follow(self) -> AsyncIterator[list[StoredBeat]]:
        """See `Beats`."""
        # A plain subscription: the stream lives in memory and begins anew with the server.
        arrived: asyncio.Queue[StoredBeat] = asyncio.Queue()

        async def on_message(message: Msg) -> None:
            beat = _decode_beat(message.data)
            if beat is not None:
                arrived.put_nowait(StoredBeat(self._connection.now(), beat))

        subscription = await self._connection.subscribe(subjects.beats(self._fleet), on_message)
        try:
            while True:
                page = [await arrived.get()]
                while not arrived.empty():
                    page.append(arrived.get_nowait())
                yield page
        finally:
            if not self._connection.client.is_closed:
                await subscription.unsubscribe()

    async def last(self, agent_id: str) -> StoredBeat | None:
        """See `Beats`."""
        message = await self._last(subjects.beats(self._fleet, agent_id))
        beat = _decode_beat(message.data) if message is not None else None
        return StoredBeat(message.time, beat) if message is not None and beat is not None else None

    async def last_of_coordinator(self) -> StoredCoordinatorBeat | None:
        """See `Beats`."""
        message = await self._last(subjects.coordinator_beats(self._fleet))
        beat = _decode_coordinator(message.data) if message is not None else None
        if message is None or beat is None:
            return None
        return StoredCoordinatorBeat((self._connection.now() - message.time).total_seconds(), beat)

    async def silence_s(self, agent_id: str) -> float:
        """See `Beats`."""
        try:
            info = await self._connection.ask(f"$JS.API.STREAM.INFO.{self._stream}", None, _Info)
        except ApiRefusal:
            return 0.0
        last = await self.last(agent_id)
        since = info.created if last is None else max(last.stored_at, info.created)
        return (self._connection.now() - since).total_seconds()

    async def _last(self, subject: str) -> _Message | None:
        which = {"last_by_subj": subject}
        try:
            got = await self._connection.ask(f"$JS.API.STREAM.MSG.GET.{self._stream}", which, _Got)
        except ApiRefusal:
            return None
        return got.message


class NatsOutputs:
    """See `fleetlog.bus.beside.Outputs`. A message is a JSON array of chunks."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self._connection = connection
        self._fleet = fleet
        self._stream = subjects.stream_names(fleet)[2]

    async def publish(self, task_id: str, attempt: int, chunks: list[OutputChunk]) -> None:
        """See `Outputs`."""
        subject = subjects.output(self._fleet, task_id, attempt)
        await self._connection.publish(subject, msgspec.json.encode(chunks))

    async def read(
        self, task_id: str, *, attempt: int | None = None, follow: bool = False
    ) -> AsyncIterator[tuple[int, OutputChunk]]:
        """See `Outputs`."""
        wanted = subjects.output(self._fleet, task_id, "*" if attempt is None else attempt)
        end: int | None = None
        if not follow:
            info = await self._connection.ask(f"$JS.API.STREAM.INFO.{self._stream}", None, _Info)
            end = info.state.last_seq
        reader = Reader(self._connection, self._stream)
        async for page in reader.pages(after=0, subjects=wanted, until=end):
            for stored in page:
                number = stored.subject.rpartition(".")[2]
                for chunk in _decode_chunks(stored.data) if number.isdecimal() else []:
                    yield int(number), chunk


class NatsHints:
    """See `fleetlog.bus.beside.Hints`."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self._connection = connection
        self._fleet = fleet

    def publish(self, task_id: str, seq: int, *, to: str | None = None) -> None:
        """See `Hints`."""
        subject = subjects.live(self._fleet, to or task_id)
        self._connection.wire.send(subject, f"{task_id} {seq}".encode())

    @asynccontextmanager
    async def listen(self, about: str, heard: Callable[[str, int], None]) -> AsyncIterator[None]:
        """See `Hints`."""

        def on_message(_subject: bytes, _reply: bytes, _header: bytes, data: bytes) -> None:
            task_id, _, seq = data.decode(errors="replace").partition(" ")
            if seq.isdecimal():
                heard(task_id, int(seq))

        wire = self._connection.wire
        subscription = await wire.listen(subjects.live(self._fleet, about), on_message)
        try:
            yield
        finally:
            await wire.end(subscription)


def _decode_chunks(data: bytes) -> list[OutputChunk]:
    # As with beats: what this version can't read is left out, lest the rest could not be read either.
    try:
        return msgspec.json.decode(data, type=list[OutputChunk])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _decode_beat(data: bytes) -> Beat | None:
    # A beat that this version can't read is worth nothing later; there is nobody to tell.
    try:
        return msgspec.json.decode(data, type=Beat)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decode_coordinator(data: bytes) -> CoordinatorBeat | None:
    try:
        return msgspec.json.decode(data, type=CoordinatorBeat)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
