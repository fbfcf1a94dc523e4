"""How much the log still takes: in one message, and as a whole.

A log with a size limit refuses every event once it is full, and on a full disk a server answers nothing. What
runs must still be able to end, so new tasks are refused earlier: the last tenth is for claims and outcomes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import deque
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.bus.errors import LogFull, TransportError
from fleetlog.bus.jetstream.append_wire import HEADER_MAX_BYTES
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.bus.system import Clock
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import stream_names

SUBMITS_SHARE: Final = 0.9
"""New tasks may fill the log up to this part of its limit."""
LOOK_S: Final = 3.0
"""How long an answer about the log's size is believed."""
DOUBT_PAUSE_S: Final = 0.05
"""How long it is believed where the log may be full by now."""
UNDER_WAY_S: Final = 1.0
"""So long after it was let in, a task's first event may not be in the log's size yet."""
DISK_KEPT_MAX_BYTES: Final = 256 * 1024**2
"""Of a large disk, less than a tenth is kept for claims and outcomes."""
DISK_OUT_BYTES: Final = 1024**2
"""With less than this, a write may have failed."""
EVENT_OWN_BYTES: Final = 1024
"""What an event holds besides its spec, and more than that."""


class Usage(msgspec.Struct, frozen=True):
    """A stream's size and its limit."""

    used_bytes: int
    """Of all messages, as the server counts them."""
    max_bytes: int | None
    """None: no limit but the disk."""
    subject_count: int = 0
    """Different subjects; the server holds each in memory."""

    @property
    def is_full_for_submits(self) -> bool:
        """Whether new tasks are refused."""
        return self.max_bytes is not None and self.used_bytes >= self.max_bytes * SUBMITS_SHARE


class Disk(msgspec.Struct, frozen=True):
    """A disk's size, and what of it is free."""

    free_bytes: int
    """For those who are not root."""
    total_bytes: int
    """All of it."""

    @property
    def is_full_for_submits(self) -> bool:
        """Whether new tasks are refused."""
        kept_bytes = min(self.total_bytes * (1 - SUBMITS_SHARE), DISK_KEPT_MAX_BYTES)
        return self.free_bytes < kept_bytes

    @property
    def is_out(self) -> bool:
        """Whether a write may have failed."""
        return self.free_bytes < DISK_OUT_BYTES


def disk_of(folder: Path) -> Disk | None:
    """The disk under a folder; None if it can't be looked at."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return Disk(usage.free, usage.total)


class _Config(msgspec.Struct):
    max_bytes: int = -1


class _State(msgspec.Struct):
    bytes: int = 0
    num_subjects: int = 0


class _Info(msgspec.Struct):
    config: _Config
    state: _State


class Room:
    """What a fleet's log still takes; asks the server at most every few seconds.

    Args:
        connection: to the server.
        fleet: whose log.
        clock: for when to ask again.
        store: the server's files, if they are on this machine; else nobody here knows of its disk.
    """

    def __init__(
        self, connection: Connection, fleet: str, clock: Clock, *, store: Path | None = None
    ) -> None:
        self._connection = connection
        self._stream = stream_names(fleet)[0]
        self._clock = clock
        self._store = store
        self._disk: Disk | None = None
        self._usage = Usage(0, None)
        self._looked_at_s = float("-inf")
        self._looking = asyncio.Lock()
        self._let_in: deque[tuple[float, int]] = deque()
        self._let_in_bytes = 0

    async def check(self, spec: TaskSpec) -> None:
        """Refuses a task that the log would not take; nothing was written then.

        Raises:
            InvalidInput: it is larger than one message may be.
            LogFull: the log holds nine tenths of what it may, or its disk is nearly full.
        """
        self._check_size(spec)
        await self.check_free()
        if self._usage.max_bytes is not None:
            size = len(memoryview(spec.args)) + EVENT_OWN_BYTES
            self._let_in.append((self._clock.monotonic(), size))
            self._let_in_bytes += size

    async def check_free(self) -> None:
        """Refuses anything new when the log would not take it.

        Raises:
            LogFull: see `check`.
        """
        while self._connection.is_connected:
            believed_s = LOOK_S
            if self._is_doubtful():
                believed_s = DOUBT_PAUSE_S
                await self._clock.sleep(DOUBT_PAUSE_S)
            elif not self._is_older(LOOK_S):
                break
            async with self._looking:
                if self._is_older(believed_s):  # else another one has looked meanwhile
                    await self._look()
        if self._usage.is_full_for_submits:
            raise LogFull(
                f"the log holds {self._usage.used_bytes} of at most {self._usage.max_bytes} bytes; the rest is"
                " for what the tasks that are there still do. Raise its limit with"
                f" `nats stream edit {self._stream} --max-bytes`, or use another --fleet"
            )
        if self._disk is not None and self._disk.is_full_for_submits:
            raise LogFull(
                f"the disk under {self._store} has {self._disk.free_bytes} of {self._disk.total_bytes} bytes"
                " free; the rest is for what the tasks that are there still do. Make room on it"
            )

    async def usage(self) -> Usage:
        """The size and the limit at this moment.

        Raises:
            TransportError: the server does not answer.
        """
        info = await self._connection.ask(f"$JS.API.STREAM.INFO.{self._stream}", None, _Info)
        limit = info.config.max_bytes
        return Usage(info.state.bytes, limit if limit > 0 else None, info.state.num_subjects)

    def _check_size(self, spec: TaskSpec) -> None:
        limit = self._connection.client.max_payload - HEADER_MAX_BYTES - EVENT_OWN_BYTES
        if len(bytes(spec.args)) * 2 < limit:
            return  # all other fields have small limits of their own, but for labels
        size = len(msgspec.json.encode(spec))
        if size > limit:
            raise InvalidInput(
                f"the task has {size} bytes, the server takes {limit} at once: put what is large into a file or"
                " an object store and pass its name"
            )

    def _is_older(self, seconds: float) -> bool:
        return self._clock.monotonic() - self._looked_at_s > seconds

    def _is_doubtful(self) -> bool:
        """Whether the log may be full by now: with what was let in and may not be in its size yet."""
        while self._let_in and self._let_in[0][0] < self._looked_at_s - UNDER_WAY_S:
            self._let_in_bytes -= self._let_in.popleft()[1]
        if not self._let_in:
            return False
        usage = self._usage
        most = msgspec.structs.replace(usage, used_bytes=usage.used_bytes + self._let_in_bytes)
        return most.is_full_for_submits and not usage.is_full_for_submits

    async def _look(self) -> None:
        with contextlib.suppress(
            TransportError
        ):  # the append itself waits for the server, and says so
            self._usage = await self.usage()
        self._disk = disk_of(self._store) if self._store is not None else None
        self._looked_at_s = self._clock.monotonic()
