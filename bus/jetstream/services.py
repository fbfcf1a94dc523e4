"""Requests to roles over NATS. Each chunk is itself a request, so that the caller sets the pace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from fleetlog.bus.background import heeding_cancel
from fleetlog.bus.errors import FleetlogError, ProjectionError, TransportError, Unavailable
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.bus.services import Handler
from fleetlog.schemas import subjects
from fleetlog.schemas.errors import InvalidInput

logger = logging.getLogger("fleetlog.bus")

CHUNK_TIMEOUT_S: Final = 30.0
_END: Final = "Fleetlog-End"
_ERROR: Final = "Fleetlog-Error"
_ERRORS: Final = {kind.__name__: kind for kind in (InvalidInput, ProjectionError, Unavailable)}


class NatsServices:
    """See `fleetlog.bus.services.Services`."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self._connection = connection
        self._fleet = fleet

    @asynccontextmanager
    async def serve(self, name: str, handler: Handler) -> AsyncIterator[None]:
        """See `Services`."""
        requests: asyncio.Queue[Msg] = asyncio.Queue()
        subscription = await self._connection.client.subscribe(
            subjects.service(self._fleet, name), queue=name, cb=requests.put
        )
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(self._accept(requests, handler))
            try:
                yield
            finally:
                accepting.cancel()
                if not self._connection.client.is_closed:
                    await subscription.unsubscribe()

    async def request(
        self, name: str, payload: bytes, *, timeout_s: float = CHUNK_TIMEOUT_S
    ) -> AsyncIterator[bytes]:
        """See `Services`."""
        arrived: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self._connection.client.new_inbox()
        subscription = await self._connection.client.subscribe(inbox, cb=arrived.put)
        try:
            await self._connection.publish(
                subjects.service(self._fleet, name), payload, reply=inbox
            )
            while True:
                message = await _next(arrived, name, timeout_s)
                headers = message.headers or {}
                if headers.get("Status") == "503":
                    raise Unavailable(f"nobody in this fleet answers `{name}` requests")
                await self._connection.publish(message.reply, b"")
                if _ERROR in headers:
                    kind = _ERRORS.get(headers[_ERROR], FleetlogError)
                    raise kind(message.data.decode())
                if _END in headers:
                    return
                yield message.data
        finally:
            if not self._connection.client.is_closed:
                await subscription.unsubscribe()

    async def _accept(self, requests: asyncio.Queue[Msg], handler: Handler) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                message = await requests.get()
                group.create_task(self._answer(message, handler))

    async def _answer(self, message: Msg, handler: Handler) -> None:
        chunks = handler(message.data)
        try:
            async for chunk in chunks:
                await self._send(message.reply, chunk, None)
            await self._send(message.reply, b"", {_END: "1"})
        except (nats.errors.Error, TransportError, TimeoutError) as error:
            logger.debug("the caller of a request went away: %s", error)
        except (FleetlogError, InvalidInput) as error:
            await self._send(message.reply, str(error).encode(), {_ERROR: type(error).__name__})
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()

    async def _send(self, inbox: str, data: bytes, headers: dict[str, str] | None) -> None:
        asking = self._connection.client.request(
            inbox, data, timeout=CHUNK_TIMEOUT_S, headers=headers
        )
        await heeding_cancel(asking)


async def _next(arrived: asyncio.Queue[Msg], name: str, timeout_s: float) -> Msg:
    try:
        async with asyncio.timeout(timeout_s):
            return await arrived.get()
    except TimeoutError as error:
        raise Unavailable(f"no answer to a `{name}` request within {timeout_s:g} s") from error
