"""How an agent finds out that it was held for lost (it was only paused, or cut off, and is back), and that the
log has lost events of its own (its server came back without its last second).
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final

from fleetlog.bus.errors import TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.subjects import Subject, format_subject

logger = logging.getLogger("fleetlog.agents")

LOOK_S: Final = 5.0
"""How often the log is asked although nothing speaks for it."""
AGAIN_S: Final = 1.0
PAUSE_S: Final = 2.5
"""Whoever does not come to beat for so long may have been missed."""


class OwnLoss:
    """Looks in the log for the agent's own `agent.lost`: at a hint, after a pause, a reconnect, and slowly.

    Args:
        fleet: whose agent.
        agent_id: the incarnation.
    """

    def __init__(self, fleet: Fleet, agent_id: str) -> None:
        self._fleet = fleet
        self._clock = fleet.system.clock
        self._agent_id = agent_id
        self._wake = asyncio.Event()
        self._ticked_at: tuple[float, datetime] | None = None
        self.found = asyncio.Event()
        """Set once it stands in the log, or the log is rewound."""
        self.is_rewound = False
        """The log lost events of ours: what it says that we hold is not what we run."""

    def look(self) -> None:
        """There may be something to see."""
        self._wake.set()

    def tick(self) -> None:
        """Called with every beat; notices that this process was not running for a while.

        By both clocks: the monotonic one of a laptop stands still while its lid is closed.
        """
        now = (self._clock.monotonic(), self._clock.now())
        if self._ticked_at is not None:
            before, was = self._ticked_at
            if max(now[0] - before, (now[1] - was).total_seconds()) > PAUSE_S:
                self.look()
        self._ticked_at = now

    async def run(self) -> None:
        """Looks until it is found."""
        callbacks = self._fleet.link.on_reconnect
        callbacks.append(self.look)
        self.look()  # the connection may have broken since the start was recorded
        try:
            with self._fleet.link.hold.wanted(is_reader=False):
                while not await self._is_lost():
                    pass
        finally:
            if self.look in callbacks:  # a connection that was closed has forgotten all of them
                callbacks.remove(self.look)
        self.found.set()

    async def _is_lost(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        lost = format_subject(Subject(self._fleet.name, "agent", self._agent_id, "lost"))
        hold = self._fleet.link.hold
        breaks = hold.break_count
        try:
            self.is_rewound = await self._fleet.log.has_lost()
            if self.is_rewound:
                hold.drop()
            hold.lift(breaks)
            return self.is_rewound or await self._fleet.log.last(lost) is not None
        except TransportError as error:
            logger.debug("whether this agent is held for lost is not known: %s", error)
            await self._clock.sleep(AGAIN_S)
            self.look()
            return False
