"""A rebuild: the whole log into a new database, which then takes the old one's place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fleetlog.bus.background import background
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.log import EventLog
from fleetlog.projections.files import Files, replace
from fleetlog.projections.inbox import Inbox
from fleetlog.projections.store import Store, create_store, open_store

OnThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function on the thread that owns the databases."""

_logger = logging.getLogger(__name__)


class Rebuilding:
    """How far a rebuild is, for those who asked for it."""

    def __init__(self) -> None:
        self._seq = 0
        self._is_done = False
        self._error: FleetlogError | None = None
        self._moved = asyncio.Event()

    def report(self, seq: int) -> None:
        """The new database holds the log up to `seq`."""
        self._seq = seq
        self._move()

    def end(self, error: FleetlogError | None = None) -> None:
        """The new database is in place, or never will be."""
        self._is_done, self._error = True, error
        self._move()

    async def follow(self) -> AsyncIterator[int]:
        """Yields what is reported until the end; reports that come while the caller is busy are left out.

        Raises:
            FleetlogError: what the rebuild ended with.
        """
        told = 0
        while True:
            moved = self._moved
            if self._seq > told:
                told = self._seq
                yield told
            elif self._is_done:
                break
            else:
                await moved.wait()
        if self._error is not None:
            raise self._error

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


async def build(
    log: EventLog, files: Files, on_thread: OnThread, report: Callable[[int], None]
) -> Store:
    """Reads the log from its start up to its present end into `files.rebuilt`; answers that, open.

    A crash before `swap` leaves the old database; what was built is thrown away by the next rebuild.

    Args:
        log: what is read.
        files: where it goes.
        on_thread: where DuckDB works, while the loop reads on.
        report: is told the last sequence after each transaction.

    Raises:
        ProjectionError: the folder cannot be written.
        TransportError: the log cannot be read.
    """
    new: Store = await on_thread(lambda: create_store(files.rebuilt, log.fleet))
    try:
        await extend(log, new, on_thread, report)
    except BaseException:
        await on_thread(new.close)
        raise
    return new


async def extend(
    log: EventLog, store: Store, on_thread: OnThread, report: Callable[[int], None]
) -> None:
    """Applies the log from the store's checkpoint to its present end.

    Raises:
        ProjectionError: the folder cannot be written.
        TransportError: the log cannot be read.
    """
    checkpoint = await on_thread(lambda: store.checkpoint)
    inbox = Inbox(0, behind_until=await log.end())
    async with background(inbox.fill(log.read(after=checkpoint.seq))):
        while batch := await inbox.take():
            await on_thread(lambda: store.add(batch))
            report(batch.last_seq)
            _logger.info("rebuilt up to event %d", batch.last_seq)


async def swap(files: Files, new: Store, old: Store, on_thread: OnThread) -> Store:
    """Puts what was built in the old database's place; answers it, open."""
    await on_thread(new.close)
    # The new file is in place before the old lock goes, so that nobody can take up the old one in between.
    await on_thread(lambda: replace(files.rebuilt, files.database))
    await on_thread(old.abandon)
    store: Store = await on_thread(lambda: open_store(files.database, new.fleet))
    return store
