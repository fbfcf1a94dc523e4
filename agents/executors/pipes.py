"""A command's stdout or stderr, read to its end or until it is given up."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self

from fleetlog.agents.executors.lines import LineSplitter

_READ_BYTES: Final = 64 * 1024
_PARTIAL_LINE_S: Final = 1.0


class OutputPipe:
    """A pipe whose one end a command gets; the other is read here.

    Not asyncio's own pipes of a subprocess: its `wait` would then wait for them too, and they may be held
    open by a child that outlives the command.
    """

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        self._reader = asyncio.StreamReader(limit=_READ_BYTES)
        self._transport: asyncio.ReadTransport | None = None
        self.is_held_up = False
        """What was read has not been taken yet."""

    async def __aenter__(self) -> Self:
        """Starts to read."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader),
            os.fdopen(self._read_fd, "rb", buffering=0),  # closed with the transport
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def close_write_end(self) -> None:
        """To be called once the command has its own copy, or has not been started."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> None:
        """Ends reading, whoever still holds the other end."""
        self.close_write_end()
        if self._transport is not None:
            self._transport.close()
            self._reader.feed_eof()

    async def pump(
        self, take: Callable[[str], None], drain: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Gives every line, and every piece of a line too long to hold, to `take` until the pipe ends.

        Bytes that are not UTF-8 are replaced. A line that is not finished within a second is given as it is,
        unless it may become one of JSON.
        """
        splitter = LineSplitter()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while (data := await self._read(splitter)) is not None:
            for piece in splitter.feed(decoder.decode(data)) if data else [splitter.release()]:
                if piece:
                    take(piece)
            self.is_held_up = True
            await drain()
            self.is_held_up = False
        for piece in splitter.feed(decoder.decode(b"", final=True)):
            take(piece)
        if rest := splitter.end():
            take(rest)

    async def _read(self, splitter: LineSplitter) -> bytes | None:
        """The next bytes; none after a while if a line is unfinished; None at the end."""
        try:
            async with asyncio.timeout(_PARTIAL_LINE_S if splitter.has_rest else None):
                return await self._reader.read(_READ_BYTES) or None
        except TimeoutError:
            return b""
