"""A rebuild: the whole log into a new database, which then takes the old one's place."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from fleetlog.bus.log import EventLog
from fleetlog.projections.files import Files, replace
from fleetlog.projections.inbox import BATCH_MAX_BYTES
from fleetlog.projections.store import Store, create_store, open_store
from fleetlog.schemas.envelope import Stored

OnThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function on the thread that owns the databases."""

BATCH_MAX: Final = 200_000
"""Messages applied at once: above 122 880 rows DuckDB takes more than one thread and no write-ahead log."""

_logger = logging.getLogger(__name__)


async def rebuild(log: EventLog, files: Files, old: Store, on_thread: OnThread) -> Store:
    """Reads the log from its start up to its present end, then swaps the files; answers the new store, open.

    Until the swap the old database stays as it is, and open: its lock keeps other projectors away. A crash
    before the swap leaves the old one; what was built is thrown away by the next rebuild.

    Raises:
        ProjectionError: the folder cannot be written.
        TransportError: the log cannot be read.
    """
    fleet = log.fleet
    new: Store = await on_thread(lambda: create_store(files.rebuilt, fleet))
    count = 0
    try:
        async for messages in gathered(log.read()):
            await on_thread(lambda: new.apply(messages))  # noqa: B023 - awaited at once
            count += len(messages)
            _logger.info("rebuilt up to event %d", messages[-1].seq)
    finally:
        await on_thread(new.close)
    # The new file is in place before the old lock goes, so that nobody can take up the old one in between.
    await on_thread(lambda: replace(files.rebuilt, files.database))
    await on_thread(old.close)
    _logger.info("rebuilt %s from %d events", files.database, count)
    store: Store = await on_thread(lambda: open_store(files.database, fleet))
    return store


async def gathered(lists: AsyncIterator[list[Stored]]) -> AsyncIterator[list[Stored]]:
    """The same messages in lists worth a transaction each."""
    pending: list[Stored] = []
    size = 0
    async for messages in lists:
        pending += messages
        size += sum(len(message.data) for message in messages)
        if len(pending) >= BATCH_MAX or size >= BATCH_MAX_BYTES:
            yield pending
            pending, size = [], 0
    if pending:
        yield pending
