"""Snapshots: a copy of the database for queries, made on demand and used again while fresh enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.bus.errors import ProjectionDamaged, ProjectionError
from fleetlog.bus.system import Clock
from fleetlog.projections.store import Store

FRESH_FOR_S: Final = 1.0
"""A snapshot is used again for so long, even though the projection has moved on."""
REST: Final = 5
"""A snapshot that took t seconds is used again for 5 t: copying never takes more than a sixth of the time."""


class Snapshot(msgspec.Struct, frozen=True):
    """One copy."""

    seq: int
    """Its checkpoint."""
    generation: int
    """The store's, when the copying began."""
    made_at_s: float
    """On the monotonic clock, when the copying began."""
    took_s: float
    """How long the copying took."""


class Snapshots:
    """Makes them, one at a time."""

    def __init__(
        self,
        store: Store,
        path: Path,
        clock: Clock,
        on_damage: Callable[[ProjectionDamaged], None],
    ) -> None:
        self.path = path
        """Where the present one lies; a reader that has opened it keeps it when the next one comes."""
        self._store = store
        self._clock = clock
        self._on_damage = on_damage
        self._lock = asyncio.Lock()
        self._last: Snapshot | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")

    async def refresh(self, *, seq_min: int = 0) -> None:
        """Makes sure that the snapshot is fresh enough and holds the events up to `seq_min`, as the store does.

        Raises:
            ProjectionError: it cannot be written, or what it is a copy of is damaged.
        """
        async with self._lock:
            if self._last is None or not self._is_fresh(self._last, seq_min):
                try:
                    self._last = await asyncio.get_running_loop().run_in_executor(
                        self._thread, self._make
                    )
                except ProjectionDamaged as error:
                    self._on_damage(error)
                    raise ProjectionError(f"{error}; ask again in a moment") from None

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """No copy is made inside the block."""
        async with self._lock:
            yield

    def adopt(self, store: Store) -> None:
        """Copies another store from now on; call it inside `paused`."""
        self._store, self._last = store, None

    async def close(self) -> None:
        """Waits for a copy that is being made, and makes no more."""
        async with self._lock:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    def _is_fresh(self, last: Snapshot, seq_min: int) -> bool:
        if last.seq < seq_min:
            return False
        age_s = self._clock.monotonic() - last.made_at_s
        is_same = last.generation == self._store.generation
        return is_same or age_s < max(FRESH_FOR_S, REST * last.took_s)

    def _make(self) -> Snapshot:
        generation, start_s = self._store.generation, self._clock.monotonic()
        seq = self._store.snapshot(self.path, made_at=self._clock.now())
        return Snapshot(seq, generation, start_s, self._clock.monotonic() - start_s)
