"""Ends workers that use more memory than they may, before the machine runs out of it for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from fleetlog.agents.strains import bytes_text
from fleetlog.agents.worker_process import Worker
from fleetlog.bus.system import Clock

LOOK_S: Final = 1.0


class MemoryWatch:
    """Looks at every worker and all that it started, once a second. Only where there is a `/proc`.

    Args:
        workers: gives those that are there.
        max_bytes: what each may use.
        clock: for the pauses.
    """

    def __init__(
        self, workers: Callable[[], Sequence[Worker]], max_bytes: int, clock: Clock
    ) -> None:
        self._workers = workers
        self._max_bytes = max_bytes
        self._clock = clock

    async def run(self) -> None:
        """Looks, for ever."""
        while True:
            await self._clock.sleep(LOOK_S)
            for worker in self._workers():
                self._look_at(worker)
                # One look takes a while where a worker has many children.
                await asyncio.sleep(0)

    def _look_at(self, worker: Worker) -> None:
        if worker.is_ending:
            return
        used = worker.footprint()
        if used is not None and used.rss_bytes > self._max_bytes:
            worker.put_down(
                f"worker {worker.worker_id} used {bytes_text(used.rss_bytes)} of memory with all that it"
                f" started, more than the {bytes_text(self._max_bytes)} that its agent allows: give the agent a"
                " higher --memory-limit, or the task less to do"
            )
