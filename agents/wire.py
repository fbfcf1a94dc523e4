"""Messages over a socketpair: an asyncio protocol that packs what one turn of the loop sends into one frame."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from fleetlog.agents.frames import MESSAGE_BYTES_MAX, ToSupervisor, ToWorker
from fleetlog.bus.errors import FleetlogError

_COALESCED_BYTES_MAX: Final = 4 * 1024
"""So much leaves at once, not at the end of the turn: a turn that starts hundreds of attempts is long, and
whoever waits for the first of them can work meanwhile."""
_FRAME_BYTES_MAX: Final = _COALESCED_BYTES_MAX + MESSAGE_BYTES_MAX + 64
# Four bytes of length, then the msgpack header of an array with a 32-bit count.
_HEADER: Final = bytes(4) + b"\xdd" + bytes(4)

_In = TypeVar("_In")


class FrameTooLarge(FleetlogError):
    """A message is larger than the wire allows; it was not sent, sending it again is useless."""


class Wire(asyncio.Protocol, Generic[_In]):
    """One end of a socketpair.

    Args:
        decoder: reads a frame's list of messages.
        on_messages: called with each frame's messages, in order.
        on_lost: called once, when the other end is gone or spoke nonsense; the text says which.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[list[_In]],
        on_messages: Callable[[list[_In]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._on_messages = on_messages
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._in = bytearray()
        self._out = bytearray(_HEADER)
        self._out_count = 0
        self._is_flush_due = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self._lost_why = "the other end closed the connection"

    def send(self, message: ToWorker | ToSupervisor) -> None:
        """Queues a message; it leaves with others, in this turn of the loop. On a lost wire nothing happens.

        Raises:
            FrameTooLarge: the message has more than `MESSAGE_BYTES_MAX`.
        """
        start = len(self._out)
        self._encoder.encode_into(message, self._out, -1)
        size = len(self._out) - start
        if size > MESSAGE_BYTES_MAX:
            del self._out[start:]
            raise FrameTooLarge(
                f"a {type(message).__name__} message has {size} bytes, at most {MESSAGE_BYTES_MAX} are allowed"
            )
        self._out_count += 1
        if len(self._out) > _COALESCED_BYTES_MAX:
            self.flush()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hands everything queued to the kernel now."""
        self._is_flush_due = False
        if self._transport is None and not self._closed.is_set():
            return
        if self._out_count and self._transport is not None:
            self._out[0:4] = (len(self._out) - 4).to_bytes(4, "big")
            self._out[5:9] = self._out_count.to_bytes(4, "big")
            self._transport.write(bytes(self._out))
        del self._out[len(_HEADER) :]
        self._out_count = 0

    async def drain(self) -> None:
        """Waits while the other end reads more slowly than this one writes."""
        await self._writable.wait()

    def pause_reading(self) -> None:
        """Reads nothing more, so that the other end's writes wait."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undoes `pause_reading`."""
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def close(self) -> None:
        """Sends what is queued and closes; `on_lost` follows."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    async def wait_closed(self, timeout_s: float = 1.0) -> None:
        """Closes, and waits until everything has left; not longer than `timeout_s`."""
        self.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._closed.wait()
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        self._closed.set()
        self._writable.set()
        self._on_lost(self._lost_why if exc is None else f"the connection broke: {exc}")

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._in += data
        start = 0
        while len(self._in) - start >= 4:
            size = int.from_bytes(self._in[start : start + 4], "big")
            if size > _FRAME_BYTES_MAX:
                return self._give_up(
                    f"a frame of {size} bytes came, at most {_FRAME_BYTES_MAX} are allowed"
                )
            end = start + 4 + size
            if len(self._in) < end:
                break
            try:
                messages = self._decoder.decode(bytes(memoryview(self._in)[start + 4 : end]))
            except msgspec.MsgspecError as error:
                return self._give_up(f"a frame came that cannot be read: {error}")
            start = end
            self._on_messages(messages)
        del self._in[:start]
        return None

    def _give_up(self, why: str) -> None:
        self._lost_why = why
        self._in.clear()
        if self._transport is not None:
            self._transport.abort()


async def connect(sock: socket.socket, wire: Wire[Any]) -> None:
    """Puts a wire on a connected socket, which it then owns."""
    await asyncio.get_running_loop().create_unix_connection(lambda: wire, sock=sock)
