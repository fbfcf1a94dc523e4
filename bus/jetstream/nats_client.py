"""nats-py's client, mended where 2.16 stays deaf, closed or waiting for good and tells nobody.

What is overridden are private names of nats-py, which is why its version is pinned to one minor release and
`tests/integration/test_nats_client.py` holds them.
"""

from __future__ import annotations

import asyncio
from typing import Final

import nats.errors
from nats.aio.client import Client as NatsClient

AGAIN_S: Final = 1.0
_HANDLED: Final = ("stale connection", "permissions violation")
"""Errors that nats-py treats as it should."""


class ServerError(nats.errors.Error):
    """What the server says of this connection."""


class LastingClient(NatsClient):
    """Breaks and connects again where nats-py would end, until it is closed."""

    def abort(self) -> None:
        """Ends the socket at once. Closing it waits until all is sent, which a server that hangs prevents."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _read_loop(self) -> None:
        await super()._read_loop()
        # It ends for good at any error of its own, such as one in the handling of a message.
        await self._process_op_err(nats.errors.Error("nats: the reading ended"))

    async def _process_op_err(self, e: Exception) -> None:
        if not (self.is_closed or self.is_reconnecting):
            self.abort()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        if any(each in err_msg.lower() for each in _HANDLED):
            await super()._process_err(err_msg)
        else:
            # If the server means it, it ends the connection itself, and then another one is tried.
            await self._error_cb(ServerError(err_msg.strip("'")))

    async def _process_pong(self) -> None:
        # The wait for the answer to a ping may have been cancelled, or have timed out.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _attempt_reconnect(self) -> None:
        while True:
            try:
                return await super()._attempt_reconnect()
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would try again
                await self._error_cb(error)
                self._status = NatsClient.RECONNECTING
                await asyncio.sleep(AGAIN_S)
