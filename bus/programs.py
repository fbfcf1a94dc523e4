"""Programs that are run to their end for what they print."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

_TERM_S: Final = 5.0
_RAN_BYTES_MAX: Final = 16 * 1024 * 1024


class Ran(msgspec.Struct, frozen=True):
    """A program that has ended."""

    code: int
    """Its exit code, negative for a signal."""
    out: bytes
    """Its stdout; of more than 16 MiB the last ones."""
    err: bytes
    """Its stderr, likewise."""


class ProgramRunner(Protocol):
    """Runs programs to their end."""

    async def run(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Ran:
        """Runs `argv` in a session of its own, without stdin. If this call is cancelled, its group is ended.

        Raises:
            OSError: the program cannot be started.
        """
        ...


class SystemPrograms:
    """Real programs."""

    async def run(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Ran:
        """See `ProgramRunner`."""
        # Files, not pipes: what a program leaves behind in the background can't make us wait, nor fill memory.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(env),
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await _end_group(process)
                raise
            return Ran(code, _last_of(out), _last_of(err))


async def _end_group(process: asyncio.subprocess.Process) -> None:
    _signal_group(process.pid, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(_TERM_S):
            await process.wait()
    # Also when it has ended: what it started may not have listened.
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(pgid: int, number: signal.Signals) -> None:
    # macOS says "not permitted" of a group that has only zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def _last_of(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _RAN_BYTES_MAX))
    return file.read()
