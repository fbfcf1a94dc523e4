"""What others ask of this agent while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

from fleetlog.bus.agent_requests import DrainAnswer, DrainRequest
from fleetlog.schemas.errors import InvalidInput

logger = logging.getLogger("fleetlog.agents")


class Wishes:
    """Answers requests to an agent, and keeps what they ask for.

    Args:
        count_running: how many attempts the agent has.
    """

    def __init__(self, count_running: Callable[[], int]) -> None:
        self._count_running = count_running
        self.drain: DrainRequest | None = None
        """The first that asked it to drain."""
        self.asked = asyncio.Event()
        """Someone has asked it to drain, and knows that it will."""

    @property
    def is_restart_wanted(self) -> bool:
        """It shall start anew when it has drained."""
        return self.drain is not None and self.drain.is_restart

    async def answer(self, payload: bytes) -> AsyncIterator[bytes]:
        """Answers one request; see `Handler`."""
        try:
            request = msgspec.json.decode(payload, type=DrainRequest)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"this agent does not understand the request: {error}") from error
        is_new = self.drain is None
        if self.drain is None:
            self.drain = request
            logger.warning("asked to drain by %s: %s", request.actor, request.reason)
        try:
            yield msgspec.json.encode(DrainAnswer(running=self._count_running(), is_new=is_new))
        finally:
            # Behind the answer: an agent with nothing to finish would be gone before it is sent.
            self.asked.set()
