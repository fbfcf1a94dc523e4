"""The hot path to the server: many frames out in one write, messages in without a task for each.

nats-py keeps the connection: authentication, TLS, reconnects, pings, subscriptions. But its parser walks
each message through half a dozen regular expressions, its headers, a queue and a task, and its `publish` goes
through as many checks: about 60 µs of a no-op task's life. Here its parser is replaced by one that hands the
messages of subscriptions made by `listen` straight to a function, and leaves everything else to nats-py.

This touches three private names of nats-py (`_ps`, `_process_msg`, `_transport`), which is why its version is
pinned to one minor release and `tests/integration/test_wire.py` holds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser

from fleetlog.bus.background import heeding_cancel

Heard = Callable[[bytes, bytes, bytes, bytes], None]
"""Gets subject, reply subject, header block (empty without headers) and payload of a message."""

_COALESCED_BYTES_MAX: Final = 16 * 1024
"""So much leaves at once, not at the end of the turn: while a long turn goes on, the server works already."""
FLUSH_TIMEOUT_S: Final = 5
_CRLF: Final = b"\r\n"
_MSG: Final = ord("M")
_HMSG: Final = ord("H")
_STATUS: Final = b"NATS/1.0 "


def status_of(header: bytes) -> str | None:
    """The status code of a header block, such as `404`; None for a message of someone's."""
    return header[9:12].decode() if header.startswith(_STATUS) else None


class Wire:
    """Sends frames and hears messages on a nats-py client's connection."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self._heard: dict[int, Heard] = {}
        self._frames: list[bytes] = []
        self._waiting_bytes = 0
        self._loop = asyncio.get_running_loop()
        client._ps = _FastParser(client, self._heard)

    async def listen(self, subject: str, heard: Heard) -> Subscription:
        """Calls `heard` for each message of a subscription, from within the reading of the socket.

        Returns when the server has the subscription, or there is no connection: nats-py subscribes by a buffer
        of its own, which what `send` sends would overtake.
        """
        subscription: Subscription = await self._client.subscribe(subject, cb=_never)
        self._heard[subscription._id] = heard
        if self._client.is_connected:
            # Should the connection break, nats-py subscribes again once it is back.
            with suppress(nats.errors.Error, OSError, RuntimeError):
                await heeding_cancel(self._client.flush(timeout=FLUSH_TIMEOUT_S))
        return subscription

    async def end(self, subscription: Subscription) -> None:
        """Ends a subscription of `listen`; what is on its way is lost."""
        self._heard.pop(subscription._id, None)
        if not self._client.is_closed:
            await subscription.unsubscribe()

    async def drain(self, subscription: Subscription) -> None:
        """Ends a subscription of `listen`; what the server has sent before is still heard."""
        if self._client.is_connected:
            with suppress(nats.errors.Error, OSError):  # the connection broke: nothing more comes
                await heeding_cancel(subscription.drain())  # type: ignore[no-untyped-call] # it has no types
        self._heard.pop(subscription._id, None)

    def send(self, subject: str, data: bytes, *, reply: str = "", header: bytes = b"") -> None:
        """Sends a message, with others of this loop turn; lost when there is no connection.

        Args:
            subject: where to; not checked.
            data: the payload.
            reply: where an answer goes.
            header: a whole header block, from `header_block`.
        """
        if not self._frames:
            self._loop.call_soon(self._flush)
        size = len(header) + len(data)
        if header:
            head = f"HPUB {subject} {reply} {len(header)} {size}\r\n".encode()
            self._frames += (head, header, data, _CRLF)
        else:
            head = f"PUB {subject} {reply} {size}\r\n".encode()
            self._frames += (head, data, _CRLF)
        self._waiting_bytes += len(head) + size
        if self._waiting_bytes > _COALESCED_BYTES_MAX:
            self._flush()

    def _flush(self) -> None:
        frames, self._frames, self._waiting_bytes = self._frames, [], 0
        transport = self._client._transport
        if frames and self._client.is_connected and transport is not None:
            # uvloop's, where the server has just closed the socket under us.
            with suppress(RuntimeError):
                transport.write(b"".join(frames))


def header_block(headers: dict[str, str]) -> bytes:
    """Headers as they go over the wire; names and values are not checked."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


async def _never(message: Msg) -> None:
    raise AssertionError(f"{message.subject} reached nats-py")


class _FastParser(Parser):
    """nats-py's parser with a short way for messages."""

    def __init__(self, client: NatsClient, heard: dict[int, Heard]) -> None:
        self._heard = heard
        self._rest = b""
        super().__init__(client)

    def reset(self) -> None:
        self._rest = b""
        super().reset()

    async def parse(self, data: bytes = b"") -> None:
        """Reads what is complete; keeps the rest for the next call."""
        data = self._rest + data
        position = 0
        while (line_end := data.find(_CRLF, position)) >= 0:
            kind = data[position]
            if kind not in (_MSG, _HMSG):
                after = line_end + 2
                await super().parse(data[position:after])
                position = after
                continue
            # MSG subject sid [reply] size · HMSG subject sid [reply] header-size size
            args = data[position:line_end].split(b" ")
            is_plain = kind == _MSG
            start = line_end + 2
            stop = start + int(args[-1])
            if stop + 2 > len(data):
                break
            body = start if is_plain else start + int(args[-2])
            reply = args[3] if len(args) == (5 if is_plain else 6) else b""
            heard = self._heard.get(int(args[2]))
            if heard is None:
                header = data[start:body] or None
                await self.nc._process_msg(int(args[2]), args[1], reply, data[body:stop], header)
            else:
                try:
                    heard(args[1], reply, data[start:body], data[body:stop])
                except Exception as error:  # noqa: BLE001 - one bad message must not end the reading of all others
                    _report(args[1], error)
            position = stop + 2
        self._rest = data[position:]


def _report(subject: bytes, error: Exception) -> None:
    text = f"a message on {subject.decode(errors='replace')} could not be handled"
    asyncio.get_running_loop().call_exception_handler({"message": text, "exception": error})
