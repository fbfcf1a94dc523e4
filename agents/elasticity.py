"""Keeps an agent's pool at the number of workers that its queues need, and says so in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from fleetlog.agents.feeder import Feeder
from fleetlog.agents.pool import WorkerPool
from fleetlog.agents.recorder import Recorder
from fleetlog.agents.scaling import Scaler, ScalingRule, Waiting, WorkerLoad
from fleetlog.bus.errors import TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.offers import Backlog, Lane
from fleetlog.schemas.envelope import instant_of

logger = logging.getLogger("fleetlog.agents")

STEP_S: Final = 0.5
LOOK_MAX_S: Final = 2.0


class Elasticity:
    """Looks at the pool twice a second; at what waits, once a second at most, and only while all are busy.

    Args:
        rule: the bounds.
        fleet: whose offers.
        pool: what grows and shrinks.
        feeder: from which lanes it would take offers.
        recorder: where each change is recorded, with the queue of which most waited last.
    """

    def __init__(
        self, rule: ScalingRule, fleet: Fleet, pool: WorkerPool, feeder: Feeder, recorder: Recorder
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._feeder = feeder
        self._recorder = recorder
        self._scaler = Scaler(rule)
        self._queue = feeder.queues[0]

    async def run(self) -> None:
        """Goes on until the feeder drains."""
        clock = self._fleet.system.clock
        while not self._feeder.is_draining:
            await clock.sleep(STEP_S)
            now_s, count = clock.monotonic(), self._pool.wanted_count
            is_asked = self._scaler.wants_look(now_s, count, self._loads(), self._reserved_count)
            waiting = await self._look() if is_asked else []
            if not self._feeder.is_draining:
                self._adjust(waiting)

    def _adjust(self, waiting: list[Waiting]) -> None:
        change = self._scaler.decide(
            self._fleet.system.clock.monotonic(),
            self._pool.wanted_count,
            self._loads(),
            waiting,
            reserved_count=self._reserved_count,
            is_strained=self._feeder.is_resting,
        )
        if change is None:
            return
        self._queue = change.queue or self._queue
        self._pool.resize(change.after, leaving=change.leaving)
        logger.info("%d workers instead of %d: %s", change.after, change.before, change.why)
        self._recorder.scaled(self._queue, change)

    @property
    def _reserved_count(self) -> int:
        return self._pool.reserve.left

    def _loads(self) -> list[WorkerLoad]:
        return [
            WorkerLoad(
                worker.worker_id, worker.slots_held, worker.finished_count, worker.slots_lent
            )
            for worker in self._pool.workers
            if worker.is_ready
        ]

    async def _look(self) -> list[Waiting]:
        """What waits in the lanes that would be asked if a worker were free, by queue."""
        lanes = self._feeder.open_lanes
        try:
            async with asyncio.timeout(LOOK_MAX_S):
                found = await asyncio.gather(*map(self._fleet.offers.backlog, lanes))
        except (TransportError, TimeoutError) as error:
            logger.debug("nobody says what waits: %s", error)
            return []
        # What the server has given us and we gave back no longer counts as pending there.
        bounced = [
            (offer.lane, Backlog(1, instant_of(offer.stored_at_ns)))
            for offer in self._feeder.bounced
        ]
        pending = zip(lanes, found, strict=True)
        return self._sum_up([*((lane, one) for lane, one in pending if one is not None), *bounced])

    def _sum_up(self, backlogs: Iterable[tuple[Lane, Backlog]]) -> list[Waiting]:
        now = self._fleet.log.now()
        counts: dict[str, int] = {}
        highs: dict[str, int] = {}
        oldest: dict[str, datetime] = {}
        for lane, backlog in backlogs:
            queue = self._feeder.base_of(lane.queue)
            counts[queue] = counts.get(queue, 0) + backlog.count
            if lane.priority == "high":
                highs[queue] = highs.get(queue, 0) + backlog.count
            oldest[queue] = min(oldest.get(queue, backlog.oldest_at), backlog.oldest_at)
        return [
            Waiting(
                queue, count, max(0.0, (now - oldest[queue]).total_seconds()), highs.get(queue, 0)
            )
            for queue, count in counts.items()
        ]
