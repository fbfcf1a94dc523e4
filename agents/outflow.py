"""Output on its way from workers to the output stream, without holding anyone up."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from fleetlog.bus.beside import Outputs
from fleetlog.bus.errors import TransportError
from fleetlog.schemas.beats import OutputChunk

logger = logging.getLogger("fleetlog.agents")

WAITING_MAX: Final = 2000
"""Pieces (of at most 64 KiB) that wait; beyond it the oldest are dropped: output may be lost, work may not."""


class Outflow:
    """A bounded queue of output and the loop that sends it."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._waiting: deque[tuple[str, int, list[OutputChunk]]] = deque(maxlen=WAITING_MAX)
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, task_id: str, attempt: int, chunks: list[OutputChunk]) -> None:
        """Queues output of an attempt."""
        self._waiting.append((task_id, attempt, chunks))
        self._empty.clear()
        self._wake.set()

    async def flush(self, task_id: str) -> None:
        """Waits until what was queued is sent, so that output never comes after its task's outcome."""
        if any(waiting[0] == task_id for waiting in self._waiting):
            await self._empty.wait()

    async def run(self) -> None:
        """Sends until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                task_id, attempt, chunks = self._waiting[0]
                try:
                    await self._outputs.publish(task_id, attempt, chunks)
                except TransportError as error:
                    logger.debug("output of task %s is lost: %s", task_id, error)
                if self._waiting:
                    self._waiting.popleft()
            self._empty.set()
