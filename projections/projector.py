"""The projector: the one process that reads the log into DuckDB and answers queries about it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

from fleetlog.bus.background import background
from fleetlog.bus.beside import Beats
from fleetlog.bus.errors import FleetlogError, LogRewound, ProjectionDamaged, ProjectionError
from fleetlog.bus.log import EventLog
from fleetlog.bus.services import Services
from fleetlog.bus.system import System
from fleetlog.projections.batches import Batch
from fleetlog.projections.files import Files, set_aside
from fleetlog.projections.inbox import BATCH_MAX, Inbox
from fleetlog.projections.query import SERVICE
from fleetlog.projections.query_service import QueryService
from fleetlog.projections.rebuild import Rebuilding, build, extend, swap
from fleetlog.projections.rebuild_service import REBUILD_SERVICE, RebuildService
from fleetlog.projections.snapshots import Snapshots
from fleetlog.projections.store import Store, create_store, open_store
from fleetlog.schemas.beats import StoredBeat

FLUSH_INTERVAL_S: Final = 0.25
"""While events keep coming, this far apart are the transactions at least."""
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
        self._rebuilding: Rebuilding | None = None
        self._built: Store | None = None
        self._is_wanted = asyncio.Event()
        self._damage: ProjectionDamaged | None = None
        self._has_started_over = False
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once the database is open and queries are answered."""

    @property
    def checkpoint(self) -> int:
        """The last sequence that is committed."""
        return self._checkpoint

    async def reached(self, seq: int) -> None:
        """Returns once the checkpoint is at or beyond `seq`; while someone waits for it, nothing rests."""
        while self._checkpoint < seq:
            self._inbox.hurry()
            await self._moved.wait()

    def stop(self) -> None:
        """Makes `run` commit what it has read and return."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Runs until `stop`, or until it is cancelled; either way what was read is committed first.

        Raises:
            ProjectionError: another projector has the folder, or the database cannot be written.
            TransportError: the log cannot be read.
        """
        try:
            self._store = await self._open()
            while not self._stopping.is_set():
                try:
                    await self._work()
                except ProjectionDamaged as error:
                    await self._start_over(error)
                except LogRewound as error:
                    await self._begin_anew(error)
        finally:
            await self._close()

    async def rebuild(self) -> AsyncIterator[int]:
        """Builds the database anew beside the present one, which answers meanwhile, and then swaps them.

        Yields sequences that the new one has reached. Whoever asks while a rebuild runs follows that one; it
        goes on when nobody does.

        Raises:
            ProjectionError: the folder cannot be written, or the projector ended before it was done.
            TransportError: the log cannot be read.
        """
        self._rebuilding = self._rebuilding or Rebuilding()
        self._is_wanted.set()
        async for seq in self._rebuilding.follow():
            yield seq

    async def _open(self) -> Store:
        path, fleet = self._files.database, self._log.fleet
        store = await self._on_thread(lambda: open_store(path, fleet))
        if self._is_rebuild:
            # The old database stays open while the new one is built: its lock keeps other projectors away.
            new = await build(self._log, self._files, self._on_thread, lambda _: None)
            store = await swap(self._files, new, store, self._on_thread)
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

    async def _work(self) -> None:
        """Answers and keeps up until it shall stop."""
        store = self._opened()
        # Who waits for a sequence that the database held already must hear of it.
        self._moved_to(store.checkpoint.seq)
        async with AsyncExitStack() as stack:
            snapshots = Snapshots(
                store, self._files.snapshot, self._system.clock, on_damage=self._on_damage
            )
            stack.push_async_callback(snapshots.close)
            await self._serve(stack, snapshots)
            while not self._stopping.is_set():
                await self._keep_up()
                await self._take_up(snapshots)

    def _on_damage(self, error: ProjectionDamaged) -> None:
        self._damage = error
        self._woken.set()

    async def _start_over(self, error: ProjectionDamaged) -> None:
        """Sets the damaged database aside and begins a new one; the second time it is the disk."""
        if self._has_started_over:
            raise ProjectionError(f"{error}, for the second time: look after the disk") from None
        self._has_started_over = True
        self._damage = None
        self._woken.clear()
        # What it holds continues the old database, not the new one.
        self._inbox = Inbox(FLUSH_INTERVAL_S)
        path, fleet = self._files.database, self._log.fleet
        old, self._store = self._opened(), None
        await self._on_thread(old.abandon)
        aside = await self._on_thread(lambda: set_aside(path))
        _logger.warning("%s; the damaged file is now %s", error, aside)
        self._store = await self._on_thread(lambda: create_store(path, fleet))
        self._checkpoint = 0
        if self._built is None:
            self._end_rebuilding(ProjectionError("the projection is built anew already"))

    async def _begin_anew(self, error: LogRewound) -> None:
        """Builds the database anew: it holds events that the log has lost."""
        _logger.warning("%s: the projection is built anew", error)
        self._woken.clear()
        self._inbox = Inbox(FLUSH_INTERVAL_S)
        path, fleet = self._files.database, self._log.fleet
        for store in (self._built, self._opened()):
            if store is not None:
                await self._on_thread(store.abandon)
        self._built = self._store = None
        self._end_rebuilding(ProjectionError("the projection is built anew already"))
        self._store = await self._on_thread(lambda: create_store(path, fleet))
        self._checkpoint = 0

    async def _serve(self, stack: AsyncExitStack, snapshots: Snapshots) -> None:
        if self._services is None:
            return
        service = QueryService(self, self._log, snapshots, self._files, self._system)
        await stack.enter_async_context(self._services.serve(SERVICE, service.handle))
        rebuilds = RebuildService(self.rebuild)
        await stack.enter_async_context(self._services.serve(REBUILD_SERVICE, rebuilds.handle))

    async def _keep_up(self) -> None:
        """Follows the log until it shall stop, or until there is a rebuilt database to go on with."""
        # The last piece of what is there may be a small one, so nothing waits for exactly the log's end.
        behind_until = await self._log.end() - BATCH_MAX
        self._inbox = Inbox(
            FLUSH_INTERVAL_S, behind_until=behind_until if behind_until > self._checkpoint else 0
        )
        loops = [self._read(), self._write(), self._build_when_asked()]
        if self._beats is not None:
            loops += [self._hear(self._beats), self._keep_beats()]
        async with background(*loops):
            self.ready.set()
            await self._woken.wait()
        if self._damage is not None:
            raise self._damage

    async def _build_when_asked(self) -> None:
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            rebuilding = self._rebuilding or Rebuilding()
            try:
                self._built = await build(
                    self._log, self._files, self._on_thread, rebuilding.report
                )
            except FleetlogError as error:
                _logger.warning("the rebuild failed: %s", error)
                self._end_rebuilding(error)
            else:
                self._woken.set()

    async def _take_up(self, snapshots: Snapshots) -> None:
        if self._built is None or self._stopping.is_set():
            return
        self._woken.clear()
        # Nothing that was answered once may be missing in the next answer.
        await extend(self._log, self._built, self._on_thread, lambda _: None)
        async with snapshots.paused():
            new, self._built = self._built, None
            old, self._store = self._opened(), None
            self._store = await swap(self._files, new, old, self._on_thread)
            snapshots.adopt(self._store)
        self._moved_to(self._store.checkpoint.seq)
        self._end_rebuilding(None)

    def _end_rebuilding(self, error: FleetlogError | None) -> None:
        if self._rebuilding is not None:
            self._rebuilding.end(error)
        self._rebuilding = None

    async def _read(self) -> None:
        async for messages in self._log.follow(after=self._checkpoint):
            await self._inbox.put(messages)

    async def _write(self) -> None:
        store = self._opened()
        while True:
            batch = await self._inbox.take()
            started = self._system.clock.monotonic()
            await self._on_thread(lambda: store.add(batch))  # noqa: B023 - awaited at once
            self._inbox.pace(self._system.clock.monotonic() - started)
            self._moved_to(max(self._checkpoint, batch.last_seq))

    def _moved_to(self, seq: int) -> None:
        self._checkpoint = seq
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
        built, self._built = self._built, None
        rest = self._inbox.take_now()
        if built is not None:
            await asyncio.shield(self._on_thread(built.close))
        self._end_rebuilding(ProjectionError("the projector stopped during the rebuild: ask again"))
        if store is not None:
            await asyncio.shield(self._on_thread(lambda: _finish(store, rest)))
        self._thread.shutdown(wait=False)


def _finish(store: Store, rest: Batch) -> None:
    try:
        if rest:
            store.add(rest)
    finally:
        store.close()
