"""Answers queries: each on a snapshot, in a child process that can only read it and is killed in time."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from fleetlog.bus.errors import ProjectionError
from fleetlog.bus.log import EventLog
from fleetlog.bus.system import Process, System
from fleetlog.projections.files import Files
from fleetlog.projections.query import SqlHeader, SqlRequest
from fleetlog.projections.query_child import Answer, Work
from fleetlog.projections.snapshots import Snapshots
from fleetlog.schemas.errors import InvalidInput

CHUNK_BYTES: Final = 512 * 1024
CHILDREN_MAX: Final = 4
"""Queries that run at once; more wait."""
_ANSWER_MAX_BYTES: Final = 1 << 20
_EXIT_GRACE_S: Final = 2.0


class Progress(Protocol):
    """How far the projection is."""

    async def reached(self, seq: int) -> None:
        """Returns once the checkpoint is at or beyond `seq`."""
        ...


class QueryService:
    """The handler behind `query`."""

    def __init__(
        self,
        progress: Progress,
        log: EventLog,
        snapshots: Snapshots,
        files: Files,
        system: System,
    ) -> None:
        self._progress = progress
        self._log = log
        self._snapshots = snapshots
        self._folder = files.queries
        self._system = system
        self._slots = asyncio.Semaphore(CHILDREN_MAX)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def handle(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers one `SqlRequest`: a line with the `SqlHeader`, then the result.

        Raises:
            InvalidInput: the request or its statement is wrong.
            ProjectionError: it took too long, needed too much, or the snapshot cannot be made.
        """
        request = _decode(payload)
        with _folder(self._folder / self._system.new_id()) as folder:
            result = folder / "result"
            try:
                async with asyncio.timeout(request.timeout_s):
                    await self._refresh(request)
                    async with self._slots:
                        header = await self._run(request, result)
            except TimeoutError:
                raise ProjectionError(
                    f"the query was stopped after {request.timeout_s:g} s: narrow it down, or allow it more"
                    " time"
                ) from None
            yield msgspec.json.encode(header) + b"\n"
            with result.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    async def _refresh(self, request: SqlRequest) -> None:
        seq_min = 0
        if request.is_fresh:
            seq_min = await self._log.end()
            await self._progress.reached(seq_min)
        await self._snapshots.refresh(seq_min=seq_min)

    async def _run(self, request: SqlRequest, result: Path) -> SqlHeader:
        work = Work(request=request, snapshot=str(self._snapshots.path), result=str(result))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
            try:
                process = await self._start(theirs)
            except OSError as error:
                raise ProjectionError(
                    f"no process for the query could be started: {error}"
                ) from error
            theirs.close()
            try:
                answer = await _converse(ours, work)
                await _wait(process)
            finally:
                await _kill(process)
        match answer:
            case Answer(header=SqlHeader() as header):
                return header
            case Answer(invalid=str() as message):
                raise InvalidInput(message)
            case Answer(failed=str() as message):
                raise ProjectionError(message)
            case _:
                raise ProjectionError(
                    "the query ended without an answer, most likely for lack of memory: narrow it down"
                )

    async def _start(self, theirs: socket.socket) -> Process:
        # Nothing of this process's environment is for a stranger's SQL; only where to find the code.
        env = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        argv = [sys.executable, "-P", "-m", "fleetlog.projections.query_child"]
        return await self._system.processes.start(
            [*argv, str(theirs.fileno())], env=env, fds=[theirs.fileno()]
        )


def _decode(payload: bytes) -> SqlRequest:
    try:
        return msgspec.json.decode(payload, type=SqlRequest)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the query cannot be read: {error}") from error


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def _converse(ours: socket.socket, work: Work) -> Answer | None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(ours, msgspec.json.encode(work) + b"\n")
    received = b""
    while len(received) < _ANSWER_MAX_BYTES:
        try:
            piece = await loop.sock_recv(ours, 65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received += piece
    return msgspec.json.decode(received, type=Answer) if received.endswith(b"\n") else None


async def _wait(process: Process) -> None:
    # A signal to a process that has just ended would take its exit code away from asyncio, so it gets the time
    # to end by itself first.
    with suppress(TimeoutError):
        async with asyncio.timeout(_EXIT_GRACE_S):
            await process.wait()


async def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await asyncio.shield(process.wait())
