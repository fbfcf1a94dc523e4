"""Services and beats without a server, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleetlog.bus.errors import Unavailable
from fleetlog.bus.services import Handler
from fleetlog.schemas.beats import Beat, StoredBeat


class LoopbackServices:
    """See `Services`: requests go straight to the handler."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    @asynccontextmanager
    async def serve(self, name: str, handler: Handler) -> AsyncIterator[None]:
        self._handlers[name] = handler
        try:
            yield
        finally:
            del self._handlers[name]

    async def request(
        self, name: str, payload: bytes, *, timeout_s: float = 30.0
    ) -> AsyncIterator[bytes]:
        if name not in self._handlers:
            raise Unavailable(f"nobody serves {name}")
        async for chunk in self._handlers[name](payload):
            yield chunk


class LoopbackBeats:
    """See `Beats`: what is put into `heard` is heard."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[list[StoredBeat]] = asyncio.Queue()

    def publish(self, beat: Beat) -> None:
        raise NotImplementedError

    async def follow(self) -> AsyncIterator[list[StoredBeat]]:
        while True:
            yield await self.heard.get()

    async def last(self, agent_id: str) -> StoredBeat | None:
        raise NotImplementedError
