"""The lanes of queues that were derived from those an agent serves, added while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from fleetlog.agents.feeder import Feeder
from fleetlog.bus.background import background
from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.queues import Queues, follow_queues

logger = logging.getLogger("fleetlog.agents")

AGAIN_S: Final = 2.0


class DerivedLanes:
    """Follows what is said of queues: pauses them, and serves those whose tasks require what this agent has.

    Args:
        fleet: whose queues.
        feeder: what takes offers; its queues as they are at the start are those of which others are derived.
        queues: what is known so far.
        labels: the agent's.
    """

    def __init__(
        self, fleet: Fleet, feeder: Feeder, queues: Queues, labels: Mapping[str, str]
    ) -> None:
        self._fleet = fleet
        self._feeder = feeder
        self._queues = queues
        self._labels = labels
        self._changed = asyncio.Event()
        feeder.pause(queues.paused)

    async def bind(self) -> None:
        """Serves what is known so far; call it before the feeder runs.

        Raises:
            TransportError: the server does not answer.
            ConfigError: a consumer has settings that fleetlog cannot work with.
        """
        for state in self._queues.derived_for(self._feeder.queues, self._labels):
            assert state.base is not None
            await self._feeder.serve(state.queue, state.base)

    async def run(self) -> None:
        """Goes on until cancelled."""
        async with background(follow_queues(self._fleet.log, self._queues, self._note)):
            while not self._feeder.is_draining:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await self.bind()
                except (TransportError, ConfigError) as error:
                    logger.warning("a queue that this agent could serve waits: %s", error)
                    await self._fleet.system.clock.sleep(AGAIN_S)
                    self._changed.set()

    def _note(self) -> None:
        self._feeder.pause(self._queues.paused)
        self._changed.set()
