"""Tasks that need a paused credential wait: their offers go back with a delay, without an event for each."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

import msgspec

from fleetlog.agents.frames import Limited
from fleetlog.bus.background import background
from fleetlog.bus.core.credential import Credential, credential_of
from fleetlog.bus.credentials import load_credentials, pause, resume, take
from fleetlog.bus.errors import LogRewound, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.events import CredentialPaused, CredentialResumed
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import credentials

logger = logging.getLogger("fleetlog.agents")

NAK_MAX_S: Final = 30.0
"""An offer that waits comes again after so long at the latest: someone may resume its credential meanwhile."""
LOOK_S: Final = 0.5
AGAIN_S: Final = 1.0


class CredentialGate:
    """What this agent knows of paused credentials, and what it found out about them.

    Args:
        fleet: whose credentials.
        agent_id: who finds out.
        host: where.
    """

    def __init__(self, fleet: Fleet, agent_id: str, host: str) -> None:
        self._fleet = fleet
        self._agent_id = agent_id
        self._host = host
        self._known: dict[str, Credential] = {}
        self._found: asyncio.Queue[tuple[str, CredentialPaused]] = asyncio.Queue()
        self.is_any_paused = False
        """False nearly always; then no offer needs a look."""

    async def bind(self) -> None:
        """Learns what the log tells; call before the first offer."""
        self._known = await load_credentials(self._fleet.log)
        self._refresh()

    async def run(self) -> None:
        """Follows the log, records what was found out, and ends pauses whose time is over; until cancelled."""
        async with background(self._follow(), self._record()):
            await self._resume_in_time()

    def wait_s(self, spec: TaskSpec) -> float | None:
        """How long an offer of such a task should stay away; None when it can be taken."""
        name = credential_of(spec)
        known = self._known.get(name) if name is not None else None
        now = self._fleet.log.now()
        if known is None or known.pause is None or not known.is_paused(now):
            return None
        if known.pause.until is None:
            return NAK_MAX_S
        return min(NAK_MAX_S, (known.pause.until - now).total_seconds() + LOOK_S)

    def limited(self, outcome: Limited, task_id: str) -> None:
        """An attempt of a task ended for its credential: nothing more starts with it, from now on."""
        now = self._fleet.log.now()
        event = CredentialPaused(
            id=self._fleet.system.new_id(),
            occurred_at=now,
            cause=task_id,
            error_class=outcome.error_class,
            error=outcome.error,
            until=outcome.until or now + timedelta(milliseconds=outcome.delay_ms),
            agent_id=self._agent_id,
            host=self._host,
        )
        self._found.put_nowait((outcome.credential, event))
        known = self._known.get(outcome.credential, Credential(name=outcome.credential))
        if not known.is_paused(now):
            self._known[known.name] = msgspec.structs.replace(known, pause=event)
            self._refresh()

    async def _follow(self) -> None:
        while True:
            after = max((known.version for known in self._known.values()), default=0)
            try:
                await self._take_after(after)
            except LogRewound:
                self._known.clear()
                self._refresh()

    async def _take_after(self, after: int) -> None:
        subjects = credentials(self._fleet.name)
        async for page in self._fleet.log.follow(after=after, subjects=subjects):
            for stored in page:
                take(self._known, stored)
            self._refresh()

    async def _record(self) -> None:
        while True:
            name, event = await self._found.get()
            while True:
                try:
                    known = await pause(self._fleet.log, name, event)
                    break
                except TransportError as error:
                    logger.error("the pause of credential %s waits: %s", name, error)
                    await self._fleet.system.clock.sleep(AGAIN_S)
            self._known[name] = known
            self._refresh()
            if known.pause is not None and known.pause.id == event.id:
                logger.warning("credential %s is paused %s: %s", name, _until(known), event.error)

    async def _resume_in_time(self) -> None:
        while True:
            await self._fleet.system.clock.sleep(LOOK_S)
            now = self._fleet.log.now()
            for known in list(self._known.values()):
                if known.pause is not None and not known.is_paused(now):
                    await self._resume(known, now)

    async def _resume(self, known: Credential, now: datetime) -> None:
        event = CredentialResumed(
            id=f"{known.name}-{known.version}-resume",
            occurred_at=now,
            reason="its time has come",
        )
        try:
            self._known[known.name] = await resume(
                self._fleet.log, known.name, event, is_forced=False
            )
        except TransportError as error:
            logger.debug("the log is away: %s", error)
        self._refresh()

    def _refresh(self) -> None:
        self.is_any_paused = any(known.pause is not None for known in self._known.values())


def _until(known: Credential) -> str:
    until = known.pause.until if known.pause is not None else None
    return "until someone resumes it" if until is None else f"until {until:%Y-%m-%d %H:%M:%S} UTC"
