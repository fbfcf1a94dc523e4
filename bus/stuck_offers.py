"""Finds offers that are stuck: asks the consumers of lanes where tasks have waited for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

import msgspec

from fleetlog.bus.core import Task
from fleetlog.bus.core.stuck import LaneTasks, stuck, suspects
from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.offers import Lane
from fleetlog.schemas.subjects import Priority

logger = logging.getLogger("fleetlog.coordinator")

ASKED_MAX: Final = 4
"""So many consumers are asked at once."""


class StuckTimes(msgspec.Struct, frozen=True, kw_only=True):
    """When offers are looked at."""

    after_s: float = 60.0
    """One that is younger, by the log's time, is left alone."""
    look_s: float = 30.0
    """The time between two looks."""


class StuckOffers:
    """Looks for them.

    Args:
        fleet: whose offers.
        tasks: those that are not settled, by id; kept by the caller.
        read_to: waits until `tasks` are as the event with this sequence left them.
        after_s: see `StuckTimes`.
    """

    def __init__(
        self,
        fleet: Fleet,
        tasks: Mapping[str, Task],
        read_to: Callable[[int], Awaitable[None]],
        after_s: float,
    ) -> None:
        self._fleet = fleet
        self._tasks = tasks
        self._read_to = read_to
        self._after = timedelta(seconds=after_s)

    async def look(self) -> list[Task]:
        """Tasks to offer again. A lane that nobody answers for, or that has no consumer yet, has none: an agent
        that comes makes the consumer begin at the lowest unsettled offer.
        """
        old = suspects(self._tasks.values(), self._fleet.log.now() - self._after)
        lanes, found = list(old.items()), list[Task]()
        for first in range(0, len(lanes), ASKED_MAX):
            found += await self._look_at(lanes[first : first + ASKED_MAX])
        return found

    async def _look_at(self, lanes: list[tuple[tuple[str, Priority], LaneTasks]]) -> list[Task]:
        try:
            answers = await asyncio.gather(
                *(self._fleet.offers.progress(Lane(*lane)) for lane, _ in lanes)
            )
            await self._read_to(await self._fleet.log.end())
        except TransportError as error:
            logger.debug("nobody says whether offers are stuck: %s", error)
            return []
        except ConfigError as error:
            # Everything else goes on: with a role that may not ask, nothing is offered again.
            logger.warning("whether offers are stuck can't be told: %s", error)
            return []
        found: list[Task] = []
        for (lane, tasks), progress in zip(lanes, answers, strict=True):
            if progress is None:
                continue
            if again := stuck(tasks, progress, self._tasks):
                logger.warning(
                    "queue %s (%s): nobody has the offers of %d tasks, they are made again",
                    *(*lane, len(again)),
                )
                found += again
        return found
