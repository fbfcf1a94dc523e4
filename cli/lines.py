"""Lines of a file, or of stdin as they come."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.schemas.errors import InvalidInput

LINE_MAX_BYTES: Final = 8 * 1024 * 1024
"""More than a server takes as one task; what has no line ends is not read into memory as a whole."""
_CHUNK_BYTES: Final = 64 * 1024
_STDIN: Final = 0


class Line(msgspec.Struct, frozen=True):
    """One line that is not blank."""

    source: str
    """The file's name, or `stdin`."""
    number: int
    """Among all lines, from 1."""
    item: int
    """Among the lines that are not blank, from 1."""
    text: bytes
    """Without white space around it."""

    @property
    def place(self) -> str:
        """For a person."""
        return f"{self.source}, line {self.number}"


def is_rereadable(path: str) -> bool:
    """Whether it is a plain file, so that all of it can be checked before any of it is used."""
    return path != "-" and Path(path).is_file()


def lines_of_file(path: str) -> Iterator[Line]:
    """The lines of a plain file that are not blank.

    Raises:
        InvalidInput: it can't be read, or a line is too long.
    """
    counted = _Counted(path)
    try:
        with Path(path).open("rb") as file:
            while text := file.readline(LINE_MAX_BYTES + 1):
                if (line := counted.take(text)) is not None:
                    yield line
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error


async def lines_that_come(path: str) -> AsyncIterator[Line]:
    """The lines of stdin (`-`) or of a pipe that are not blank, each as soon as it is there.

    Raises:
        InvalidInput: it can't be read, or a line is too long.
    """
    counted = _Counted("stdin" if path == "-" else path)
    try:
        fd = _STDIN if path == "-" else os.open(path, os.O_RDONLY)
        rest = b""
        async for chunk in _chunks(fd):
            *whole, rest = (rest + chunk).split(b"\n")
            for text in whole:
                if (line := counted.take(text)) is not None:
                    yield line
            counted.check_length(rest)
    except OSError as error:
        raise InvalidInput(f"{counted.source} can't be read: {error.strerror}") from error
    if (line := counted.take(rest)) is not None:
        yield line


class _Counted:
    def __init__(self, source: str) -> None:
        self.source = source
        self._number = self._item = 0

    def take(self, text: bytes) -> Line | None:
        self.check_length(text)
        self._number += 1
        text = text.strip()
        if not text:
            return None
        self._item += 1
        return Line(self.source, self._number, self._item, text)

    def check_length(self, text: bytes) -> None:
        if len(text) > LINE_MAX_BYTES:
            raise InvalidInput(
                f"{self.source}, line {self._number + 1} has more than {LINE_MAX_BYTES >> 20} MiB:"
                " one line is one item; put what is large into a file and name that file in the item"
            )


async def _chunks(fd: int) -> AsyncIterator[bytes]:
    # On a thread that nobody waits for: a read of a terminal can't be ended, and to make stdin non-blocking for
    # the event loop would make it so for everyone who has the same terminal or pipe open.
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    wanted = threading.Semaphore(0)

    def read() -> None:
        chunk: bytes | OSError = b"-"
        while chunk and not isinstance(chunk, OSError):
            wanted.acquire()
            try:
                chunk = os.read(fd, _CHUNK_BYTES)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            except RuntimeError:
                return  # the loop has been closed meanwhile

    threading.Thread(target=read, name="items", daemon=True).start()
    while True:
        wanted.release()
        chunk = await arrived.get()
        if isinstance(chunk, OSError):
            raise chunk
        if not chunk:
            return
        yield chunk
