"""The lifeline: a pipe that tells the roles of `fleetlog up` that it has gone, however it went.

`up` holds the one write end and never writes; every role inherits the read end. When `up` dies, the kernel
closes the write end and the read end comes to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Lifeline:
    """The side of `up`. Entering opens the pipe, leaving cuts it."""

    def __enter__(self) -> Self:
        """Both ends are inherited by nobody unless passed on."""
        self._read_fd, self._write_fd = os.pipe()
        return self

    @property
    def read_fd(self) -> int:
        """What a role inherits, as `FLEETLOG_LIFELINE`."""
        return self._read_fd

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._read_fd)
        os.close(self._write_fd)


async def watch_lifeline(fd: int | None, on_eof: Callable[[], None]) -> None:
    """Calls `on_eof` once, when the `up` that started this process has gone; then returns.

    Run it in the role's task group and cancel it on a stop in order. It takes the descriptor over, and no
    child process of the role inherits it.

    Args:
        fd: `settings.lifeline_fd`; None (the role was started by hand), or a number that was handed down to
            a process without the pipe, returns at once.
        on_eof: what to do, such as setting the role's stop event.
    """
    if fd is None or not _is_pipe(fd):
        return
    os.set_inheritable(fd, False)  # noqa: FBT003 - the standard library's signature
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _note_end, ended)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
    on_eof()


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False


def _note_end(ended: asyncio.Future[None]) -> None:
    # Nobody writes into the pipe, so that readable means ended.
    if not ended.done():
        ended.set_result(None)
