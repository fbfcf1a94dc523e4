"""A TCP proxy between a client and the server that can lose what passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlparse

import msgspec

from fleetlog.bus.embedded.runtime import Target

Filter = Callable[[bytes], bytes | None]
"""Gets a chunk, gives what goes on; None cuts the connection."""


class Proxy:
    """Forwards bytes; `upstream` and `downstream` may change or cut them."""

    def __init__(self, target: Target) -> None:
        parsed = urlparse(target.url)
        self._host, self._port = parsed.hostname, parsed.port
        self._target = target
        self._port_here = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.upstream: Filter = lambda chunk: chunk
        self.downstream: Filter = lambda chunk: chunk
        self.connections = 0
        self.refuse = False
        """Whether new connections end at once."""

    @property
    def target(self) -> Target:
        """Where to connect, instead of the server."""
        return msgspec.structs.replace(self._target, url=f"nats://127.0.0.1:{self._port_here}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port_here = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Ends every connection at once."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            writer.close()
            return
        there_reader, there_writer = await asyncio.open_connection(self._host, self._port)
        pair = {writer, there_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there_writer, "upstream"))
                group.create_task(self._pump(there_reader, writer, "downstream"))
        except* (ConnectionError, _CutError):
            pass
        finally:
            self._writers -= pair
            for each in pair:
                each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        while chunk := await reader.read(65536):
            pass_on: Filter = getattr(self, direction)
            rest = pass_on(chunk)
            if rest is None:
                raise _CutError
            writer.write(rest)
            await writer.drain()
        raise _CutError


class _CutError(Exception):
    pass
