"""The object store: what is too large for an event, called by the digest of what it holds."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Final, Protocol

from fleetlog.bus.errors import ObjectLost
from fleetlog.schemas.objects import ObjectRef

CHUNK_BYTES: Final = 128 * 1024


class Objects(Protocol):
    """One fleet's object store: `MemoryObjects`, `NatsObjects`; one contract suite holds for both.

    An object is stored before the event that names it, so that an event never names what is not there.
    """

    async def put(self, data: bytes | io.BufferedIOBase) -> ObjectRef:
        """Stores the bytes, or what a seekable file holds from its start; what is there already stays.

        Raises:
            ObjectLost: the file changed while it was read; nothing is stored under that name.
            Unavailable: the store does not answer. Storing again is safe.
        """
        ...

    async def get(self, ref: ObjectRef) -> bytes:
        """The object, of the size and digest that `ref` says.

        Raises:
            ObjectLost: it is missing or damaged.
            Unavailable: the store does not answer.
        """
        ...

    def read(self, ref: ObjectRef) -> AsyncIterator[bytes]:
        """The object in pieces. That it is whole is known only at the end.

        Raises:
            ObjectLost: it is missing or damaged, perhaps after pieces of it were given.
            Unavailable: the store does not answer.
        """
        ...

    async def delete(self, ref: ObjectRef) -> None:
        """Removes the object; nothing happens if it is not there. The caller knows that no event needs it.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    async def save(self, name: str, data: bytes) -> None:
        """Stores bytes under a name of their own in place of what it had. No event may rely on them.

        Args:
            name: no digest.
            data: what to store.

        Raises:
            Unavailable: the store does not answer; there may be nothing under the name now.
        """
        ...

    async def load(self, name: str) -> bytes | None:
        """What was saved last under a name; None when there is nothing.

        Raises:
            ObjectLost: it is damaged, or was saved again meanwhile.
            Unavailable: the store does not answer.
        """
        ...


class MemoryObjects:
    """An object store that lives as long as the process."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        """By digest, or name."""

    async def put(self, data: bytes | io.BufferedIOBase) -> ObjectRef:
        """See `Objects`."""
        whole = data if isinstance(data, bytes) else await asyncio.to_thread(_read_all, data)
        ref = ref_of(whole)
        self.held.setdefault(ref.sha256, whole)
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """See `Objects`."""
        return b"".join([piece async for piece in self.read(ref)])

    async def read(self, ref: ObjectRef) -> AsyncIterator[bytes]:
        """See `Objects`."""
        whole = self.held.get(ref.sha256)
        if whole is None:
            raise missing(ref)
        check = Check(ref)
        for start in range(0, len(whole), CHUNK_BYTES):
            yield check.add(whole[start : start + CHUNK_BYTES])
        check.end()

    async def delete(self, ref: ObjectRef) -> None:
        """See `Objects`."""
        self.held.pop(ref.sha256, None)

    async def save(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        self.held[name] = data

    async def load(self, name: str) -> bytes | None:
        """See `Objects`."""
        return self.held.get(name)


class Check:
    """Compares what is read of an object with what it must be."""

    def __init__(self, ref: ObjectRef) -> None:
        self._ref = ref
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, piece: bytes) -> bytes:
        """Takes the next piece and gives it back.

        Raises:
            ObjectLost: there is more than there should be.
        """
        self._digest.update(piece)
        self._size += len(piece)
        if self._size > self._ref.size:
            raise damaged(self._ref)
        return piece

    def end(self) -> None:
        """Nothing follows.

        Raises:
            ObjectLost: the size or the digest is another one.
        """
        if self._size != self._ref.size or self._digest.hexdigest() != self._ref.sha256:
            raise damaged(self._ref)


def ref_of(data: bytes) -> ObjectRef:
    """What an object with these bytes is called."""
    return ObjectRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def ref_of_file(file: io.BufferedIOBase) -> ObjectRef:
    """What an object with a file's bytes is called; the file is read through, and stands at its start again."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return ObjectRef(sha256=digest, size=size)


def missing(ref: ObjectRef) -> ObjectLost:
    """The error for an object that is not there."""
    return ObjectLost(
        f"the object store has no object {ref.sha256} of {ref.size} bytes: it was removed, or the log was moved"
        " without its object store"
    )


def damaged(ref: ObjectRef) -> ObjectLost:
    """The error for an object that is not what its name says."""
    return ObjectLost(
        f"the object {ref.sha256} of {ref.size} bytes is damaged in the object store: restore that from a"
        " backup, or remove the object there and submit the work again"
    )


def _read_all(file: io.BufferedIOBase) -> bytes:
    file.seek(0)
    return file.read()
