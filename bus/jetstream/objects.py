"""The object store on JetStream, in the layout that every NATS client reads; nats-py writes it.

It is read by hand, chunk by chunk through the stream's leader: nats-py's own `get` opens a consumer, and waits
for ever where chunks are missing.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable
from io import BufferedIOBase
from typing import Final, TypeVar

import msgspec
import nats.errors
from nats.js.api import ObjectInfo
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from fleetlog.bus.background import heeding_cancel
from fleetlog.bus.errors import ObjectLost, Unavailable
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.bus.objects import Check, damaged, missing, ref_of, ref_of_file
from fleetlog.schemas.objects import ObjectRef
from fleetlog.schemas.subjects import object_bucket, object_stream

_NO_MESSAGE: Final = 10037

T = TypeVar("T")


class _Chunk(msgspec.Struct, frozen=True):
    seq: int
    data: bytes = b""


class _Found(msgspec.Struct, frozen=True):
    message: _Chunk


class NatsObjects:
    """See `fleetlog.bus.objects.Objects`."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self._connection = connection
        self._bucket = object_bucket(fleet)
        self._stream = object_stream(fleet)
        self._store = ObjectStore(
            name=self._bucket, stream=self._stream, js=connection.client.jetstream()
        )

    async def put(self, data: bytes | BufferedIOBase) -> ObjectRef:
        """See `Objects`."""
        if isinstance(data, bytes):
            ref = ref_of(data)
        else:
            ref = await asyncio.to_thread(ref_of_file, data)
        info = await self._info(ref.sha256)
        if info is not None and info.size == ref.size:
            return ref
        info = await _answer(self._store.put(ref.sha256, data))
        if (info.size, info.digest) != (ref.size, _digest_text(ref)):
            await self.delete(ref)
            raise ObjectLost(
                "the file changed while it was stored: store it again when it is whole"
            )
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """See `Objects`."""
        try:
            return await self._get(ref)
        except ObjectLost:
            # Once more: someone may have stored it at the same time, and then its first chunks are gone.
            return await self._get(ref)

    async def read(self, ref: ObjectRef) -> AsyncIterator[bytes]:
        """See `Objects`."""
        info = await self._info(ref.sha256)
        if info is None:
            raise missing(ref)
        if info.size != ref.size:
            raise damaged(ref)
        async for piece in self._pieces(info, ref):
            yield piece

    async def save(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        await _answer(self._store.put(name, data))

    async def load(self, name: str) -> bytes | None:
        """See `Objects`."""
        info = await self._info(name)
        if info is None:
            return None
        digest = urlsafe_b64decode((info.digest or "").removeprefix("SHA-256=")).hex()
        ref = ObjectRef(sha256=digest, size=info.size or 0)
        return b"".join([piece async for piece in self._pieces(info, ref)])

    async def _pieces(self, info: ObjectInfo, ref: ObjectRef) -> AsyncIterator[bytes]:
        check = Check(ref)
        seq = 0
        for _ in range(info.chunks or 0):
            chunk = await self._chunk_after(seq, info.nuid, ref)
            seq = chunk.seq
            yield check.add(chunk.data)
        check.end()

    async def delete(self, ref: ObjectRef) -> None:
        """See `Objects`."""
        if await self._info(ref.sha256) is not None:
            try:
                await _answer(self._store.delete(ref.sha256))
            except NotFoundError:
                return  # another one was faster

    async def _get(self, ref: ObjectRef) -> bytes:
        return b"".join([piece async for piece in self.read(ref)])

    async def _info(self, name: str) -> ObjectInfo | None:
        try:
            return await _answer(self._store.get_info(name))
        except NotFoundError:
            return None

    async def _chunk_after(self, seq: int, nuid: str | None, ref: ObjectRef) -> _Chunk:
        request = {"seq": seq + 1, "next_by_subj": f"$O.{self._bucket}.C.{nuid}"}
        subject = f"$JS.API.STREAM.MSG.GET.{self._stream}"
        try:
            return (await self._connection.ask(subject, request, _Found)).message
        except ApiRefusal as refusal:
            if refusal.error.err_code == _NO_MESSAGE:
                raise damaged(ref) from refusal
            raise


def _digest_text(ref: ObjectRef) -> str:
    """As the layout has it. Source: ADR-20 (JetStream based object stores)."""
    return f"SHA-256={urlsafe_b64encode(bytes.fromhex(ref.sha256)).decode()}"


async def _answer(awaitable: Awaitable[T]) -> T:
    try:
        return await heeding_cancel(awaitable)
    except NotFoundError:
        raise
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise Unavailable(
            f"the object store does not answer ({str(error) or type(error).__name__}): see `fleetlog doctor`"
        ) from error
