"""The projector: the one process that reads the log into DuckDB and answers queries about it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

from fleetlog.bus.background import background
from fleetlog.bus.beside import Beats
from fleetlog.bus.errors import ProjectionError
from fleetlog.bus.log import EventLog
from fleetlog.bus.services import Services
from fleetlog.bus.system import System
from fleetlog.projections.files import Files
from fleetlog.projections.inbox import Inbox
from fleetlog.projections.query import SERVICE
from fleetlog.projections.query_service import QueryService
from fleetlog.projections.rebuild import rebuild
from fleetlog.projections.snapshots import Snapshots
from fleetlog.projections.store import Store, create_store, open_store
from fleetlog.schemas.beats import StoredBeat
from fleetlog.schemas.envelope import Stored

FLUSH_INTERVAL_S: Final = 0.25
"""While events keep coming, this far apart are the transactions."""
BEATS_INTERVAL_S: Final = 1.0
"""While heartbeats keep coming, this far apart are theirs."""
_BEATS_MAX: Final = 10_000

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)


class Projector:
    """Keeps `<folder>/projection.duckdb` up with the log, and answers queries if it is given `services`.

    All DuckDB work happens on a thread of its own: the loop stays free for beats, signals and queries.
    """

    def __init__(
        self,
        log: EventLog,
        folder: Path,
        *,
        beats: Beats | None = None,
        services: Services | None = None,
        system: System | None = None,
        is_rebuild: bool = False,
    ) -> None:
        self._log = log
        self._files = Files(folder)
        self._beats = beats
        self._services = services
        self._system = system or System()
        self._is_rebuild = is_rebuild
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projection")
        self._inbox = Inbox(FLUSH_INTERVAL_S)
        self._store: Store | None = None
        self._checkpoint = 0
        self._moved = asyncio.Event()
        # The loss of a heartbeat costs nothing, so the oldest make room.
        self._heard: deque[StoredBeat] = deque(maxlen=_BEATS_MAX)
        self._has_heard = asyncio.Event()
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once the database is open and queries are answered."""

    @property
    def checkpoint(self) -> int:
        """The last sequence that is committed."""
        return self._checkpoint

    async def reached(self, seq: int) -> None:
        """Returns once the checkpoint is at or beyond `seq`."""
        while self._checkpoint < seq:
            await self._moved.wait()

    def stop(self) -> None:
        """Makes `run` commit what it has read and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs until `stop`, or until it is cancelled; either way what was read is committed first.

        Raises:
            ProjectionError: another projector has the folder, or the database cannot be written.
            TransportError: the log cannot be read.
        """
        try:
            self._store = await self._open()
            async with AsyncExitStack() as stack:
                loops = [self._read(), self._write()]
                if self._beats is not None:
                    loops += [self._hear(self._beats), self._keep_beats()]
                await stack.enter_async_context(background(*loops))
                await self._serve(stack, self._store)
                self.ready.set()
                await self._stopping.wait()
        finally:
            await self._close()

    async def _open(self) -> Store:
        path, fleet = self._files.database, self._log.fleet
        store = await self._on_thread(lambda: open_store(path, fleet))
        if self._is_rebuild:
            # The old database stays open while the new one is built: its lock keeps other projectors away.
            store = await rebuild(self._log, self._files, store, self._on_thread)
        why = await self._mismatch(store)
        if why is not None:
            _logger.warning("%s %s: it is built anew from the log", path, why)
            await self._on_thread(store.close)
            store = await self._on_thread(lambda: create_store(path, fleet))
        self._checkpoint = store.checkpoint.seq
        return store

    async def _mismatch(self, store: Store) -> str | None:
        mine = await self._on_thread(lambda: store.checkpoint)
        if mine.seq == 0:
            return None
        end = await self._log.end()
        if mine.seq > end:
            return f"holds events up to {mine.seq}, but the log ends at {end}"
        theirs = await self._log.get(mine.seq)
        if theirs is not None and (theirs.stored_at_ns, theirs.subject) != (
            *(mine.stored_at_ns, mine.subject),
        ):
            return f"was built from another log: event {mine.seq} is not the same"
        return None

    async def _serve(self, stack: AsyncExitStack, store: Store) -> None:
        if self._services is None:
            return
        snapshots = Snapshots(store, self._files.snapshot, self._system.clock)
        stack.push_async_callback(snapshots.close)
        service = QueryService(self, self._log, snapshots, self._files, self._system)
        await stack.enter_async_context(self._services.serve(SERVICE, service.handle))

    async def _read(self) -> None:
        async for messages in self._log.follow(after=self._checkpoint):
            await self._inbox.put(messages)

    async def _write(self) -> None:
        store = self._opened()
        while True:
            messages = await self._inbox.take()
            await self._on_thread(lambda: store.apply(messages))  # noqa: B023 - awaited at once
            self._checkpoint = max(self._checkpoint, messages[-1].seq)
            self._moved.set()
            self._moved = asyncio.Event()

    async def _hear(self, beats: Beats) -> None:
        async for heard in beats.follow():
            self._heard += heard
            self._has_heard.set()

    async def _keep_beats(self) -> None:
        store = self._opened()
        while True:
            await self._has_heard.wait()
            self._has_heard.clear()
            heard = list(self._heard)
            self._heard.clear()
            await self._on_thread(lambda: store.add_beats(heard))  # noqa: B023 - awaited at once
            await self._system.clock.sleep(BEATS_INTERVAL_S)

    def _opened(self) -> Store:
        if self._store is None:
            raise ProjectionError("the projection is not open: await `ready` first")
        return self._store

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _close(self) -> None:
        # Queued behind whatever the thread is doing, so it runs even after a cancellation in the middle.
        store, self._store = self._store, None
        rest = self._inbox.take_now()
        if store is not None:
            await asyncio.shield(self._on_thread(lambda: _finish(store, rest)))
        self._thread.shutdown(wait=False)


def _finish(store: Store, rest: list[Stored]) -> None:
    try:
        if rest:
            store.apply(rest)
    finally:
        store.close()
