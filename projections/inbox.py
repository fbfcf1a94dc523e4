"""What was read and not yet applied: bounded, and handed over in pieces worth a transaction.

What comes in is packed at once, while DuckDB works on the piece before: packed it needs less room, and the
transaction need not wait for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fleetlog.projections.batches import ROWS_MAX, Batch, Rows, pack
from fleetlog.schemas.envelope import Stored

BATCH_MAX: Final = 122_880
"""Messages applied at once, at most: one row group of DuckDB, which is written straight into the file."""
BATCH_MAX_BYTES: Final = 64 << 20
"""Payload applied at once, unless a single list of the reader is larger."""

REST: Final = 9.0
"""From one piece to the next is so many times what a piece takes."""
INTERVAL_MAX_S: Final = 2.0
"""But no longer than this."""


class Inbox:
    """A queue between one reader and one writer."""

    def __init__(self, interval_s: float, *, behind_until: int = 0) -> None:
        """Args:
        interval_s: the shortest time between two pieces while messages keep coming; see `pace`.
        behind_until: below this sequence only full pieces are handed over, whatever the time: a large
            transaction costs less for each message.
        """
        self._shortest_s = self._interval_s = interval_s
        self._behind_until = behind_until
        self._packed: list[Rows] = []
        self._messages: list[Stored] = []
        self._count = self._bytes = 0
        self._taken_at = float("-inf")
        self._is_finished = False
        self._filled = asyncio.Event()
        self._due = asyncio.Event()
        self._emptied = asyncio.Event()

    async def fill(self, lists: AsyncIterator[list[Stored]]) -> None:
        """Puts all that `lists` has, and finishes."""
        async for messages in lists:
            await self.put(messages)
        self.finish()

    async def put(self, messages: list[Stored]) -> None:
        """Adds messages; waits while the inbox is full."""
        while self._is_full():
            self._emptied.clear()
            await self._emptied.wait()
        self._messages += messages
        self._count += len(messages)
        self._bytes += sum(len(message.data) for message in messages)
        while len(self._messages) >= ROWS_MAX:
            self._pack()
        if messages[-1].seq >= self._behind_until > 0:
            self._behind_until = 0
            self._due.set()
        if self._is_full():
            self._due.set()
        self._filled.set()

    def finish(self) -> None:
        """Says that nothing more comes: when all is taken, an empty batch is."""
        self._is_finished = True
        self._filled.set()
        self._due.set()

    async def take(self) -> Batch:
        """What is there: at once after a pause, else an interval after the last take or when it is full."""
        await self._filled.wait()
        now = asyncio.get_running_loop().time
        is_behind = self._behind_until > 0
        left_s = None if is_behind else max(0.0, self._taken_at + self._interval_s - now())
        try:
            async with asyncio.timeout(left_s):
                await self._due.wait()
        except TimeoutError:
            pass
        self._taken_at = now()
        return self._cut(BATCH_MAX)

    def pace(self, took_s: float) -> None:
        """Says how long the last piece took to apply: the next one may wait for a multiple of that.

        Most of a small transaction's cost is the same for any size. While much comes in, fewer and larger ones
        leave the processor to those whose events they are.
        """
        self._interval_s = max(self._shortest_s, min(took_s * REST, INTERVAL_MAX_S))

    def hurry(self) -> None:
        """What is there, or comes next, is due at once: someone waits for it. Not while much is behind."""
        if not self._behind_until:
            self._due.set()

    def take_now(self) -> Batch:
        """All that is there, perhaps nothing."""
        return self._cut(self._count)

    def _pack(self) -> None:
        self._packed.append(pack(self._messages[:ROWS_MAX]))
        del self._messages[:ROWS_MAX]

    def _cut(self, most: int) -> Batch:
        """What came first, up to so many: a multiple of what is packed at once, or all."""
        if self._messages and self._count <= most:
            self._pack()
        pieces = -(-most // ROWS_MAX)
        taken, self._packed = self._packed[:pieces], self._packed[pieces:]
        self._count -= sum(rows.length for rows in taken)
        self._bytes -= sum(rows.size_bytes for rows in taken)
        if not self._is_finished and not self._is_full():
            self._due.clear()
        if not self._is_finished and not self._count:
            self._filled.clear()
        self._emptied.set()
        return Batch(taken)

    def _is_full(self) -> bool:
        return self._count >= BATCH_MAX or self._bytes >= BATCH_MAX_BYTES
