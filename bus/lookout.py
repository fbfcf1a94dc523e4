"""The coordinator's ear: hears agents, other coordinators and itself, by one path."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fleetlog.bus.core.office import Office
from fleetlog.bus.core.watch import Silence, Watch
from fleetlog.bus.errors import TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.beats import Beat, CoordinatorBeat

logger = logging.getLogger("fleetlog.coordinator")

BEAT_S: Final = 0.5
ANSWER_S: Final = 1.0
"""A leader that takes longer is as good as none."""


class Lookout:
    """Holds the office or waits for it, and says which agents are lost while it is ours.

    Args:
        fleet: whose agents.
        has_rivals: False: it acts whatever others do. For tests of what two do at once.
    """

    def __init__(self, fleet: Fleet, *, has_rivals: bool = True) -> None:
        self._fleet = fleet
        self._clock = fleet.system.clock
        self._has_rivals = has_rivals
        self.coordinator_id = f"c{fleet.system.new_id()}"
        self.host = platform.node().split(".")[0]
        self.watch = Watch()
        """The agents that shall be listened to."""
        self.office = Office(self.coordinator_id, self._clock.monotonic())
        """Whether we act."""
        self.active = asyncio.Event()
        """Set while the office is ours."""
        self._is_anyone_lost = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listens while the block runs."""
        self._fleet.link.on_reconnect.append(self.watch.pardon)
        async with self._fleet.beats.listen(self._hear):
            yield

    async def run(self) -> None:
        """Beats while the office is ours, and takes it when it is free."""
        await self._learn()
        while True:
            if self._fleet.link.is_connected and self.office.look(self._clock.monotonic()):
                if not self.active.is_set():
                    logger.info("this coordinator is the active one, term %d", self.office.term)
                    self.watch.pardon()
                    self.active.set()
                await self._beat()
            await self._clock.sleep(BEAT_S)

    async def lost(self) -> list[Silence]:
        """Waits until agents are lost, and names them; again with every own beat, until they are dismissed."""
        while True:
            await self._is_anyone_lost.wait()
            self._is_anyone_lost.clear()
            # Asked anew: whoever calls this may have been busy for long, and then it is no longer true.
            if lost := self.watch.lost(self._clock.monotonic()):
                return lost

    def resign(self) -> None:
        """Gives the office up, if it is ours."""
        if self.office.is_ours:
            self._publish(is_active=False)

    async def _learn(self) -> None:
        """Hears of an active one that spoke a moment ago."""
        try:
            last = await self._fleet.beats.last_of_coordinator()
        except TransportError as error:
            logger.warning("whether another coordinator is active is not known: %s", error)
            return
        if last is not None:
            self._hear_coordinator(last.beat, self._clock.monotonic() - last.age_s)

    async def _beat(self) -> None:
        # Only behind a word of the log's leader: while there is none, nothing can be written, and agents of the
        # server that went may still be looking for another one.
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._fleet.log.end()
        except (TransportError, TimeoutError):
            return
        self._publish(is_active=True)

    def _publish(self, *, is_active: bool) -> None:
        beat = CoordinatorBeat(
            coordinator_id=self.coordinator_id,
            host=self.host,
            occurred_at=self._clock.now(),
            term=self.office.term,
            is_active=is_active,
        )
        self._fleet.beats.publish(beat)

    def _hear(self, beat: Beat | CoordinatorBeat) -> None:
        at = self._clock.monotonic()
        if isinstance(beat, Beat):
            self.watch.hear(beat.agent_id, at)
        elif beat.coordinator_id != self.coordinator_id:
            self._hear_coordinator(beat, at)
        elif self.office.is_ours:
            self.watch.hear_self(at)
            if self.watch.lost(at):
                self._is_anyone_lost.set()

    def _hear_coordinator(self, beat: CoordinatorBeat, at: float) -> None:
        if not self._has_rivals:
            return
        self.office.hear(beat.coordinator_id, beat.term, at, is_active=beat.is_active)
        if self.active.is_set() and not self.office.is_ours:
            logger.info("coordinator %s on %s is active, this one stands by", *_who(beat))
            self.active.clear()


def _who(beat: CoordinatorBeat) -> tuple[str, str]:
    return beat.coordinator_id, beat.host
