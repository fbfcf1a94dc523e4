"""What was read and not yet applied: bounded, and handed over in pieces worth a transaction."""

from __future__ import annotations

import asyncio
from typing import Final

from fleetlog.schemas.envelope import Stored

BATCH_MAX: Final = 50_000
"""Messages applied at once, at most."""
BATCH_MAX_BYTES: Final = 64 << 20
"""Payload applied at once, unless a single list of the reader is larger."""


class Inbox:
    """A queue between one reader and one writer."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._messages: list[Stored] = []
        self._bytes = 0
        self._taken_at = float("-inf")
        self._filled = asyncio.Event()
        self._full = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, messages: list[Stored]) -> None:
        """Adds messages; waits while the inbox is full."""
        while self._full.is_set():
            self._emptied.clear()
            await self._emptied.wait()
        self._messages += messages
        self._bytes += sum(len(message.data) for message in messages)
        if len(self._messages) >= BATCH_MAX or self._bytes >= BATCH_MAX_BYTES:
            self._full.set()
        self._filled.set()

    async def take(self) -> list[Stored]:
        """All that is there: at once after a pause, else an interval after the last take or when it is full."""
        await self._filled.wait()
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(max(0.0, self._taken_at + self._interval_s - now())):
                await self._full.wait()
        except TimeoutError:
            pass
        self._taken_at = now()
        return self.take_now()

    def take_now(self) -> list[Stored]:
        """All that is there, perhaps nothing."""
        messages, self._messages, self._bytes = self._messages, [], 0
        self._filled.clear()
        self._full.clear()
        self._emptied.set()
        return messages
