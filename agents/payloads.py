"""Arguments and results too large for an event, on their way from and to the object store."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from fleetlog.bus.core import Complete
from fleetlog.bus.errors import TransportError
from fleetlog.bus.objects import Objects
from fleetlog.bus.system import Clock
from fleetlog.schemas.objects import ObjectRef

logger = logging.getLogger("fleetlog.agents")

AWAY_S: Final = 60.0
"""So long an attempt waits for an object store that does not answer, before it is given back."""
PAUSE_S: Final = 1.0


class Payloads:
    """Moves arguments and results, for as long as the store needs to come back."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock

    async def fetch(self, ref: ObjectRef) -> bytes:
        """The arguments that an event names.

        Raises:
            ObjectLost: they are missing or damaged.
            TransportError: the store did not answer for a minute.
        """
        give_up_at = self._clock.monotonic() + AWAY_S
        while True:
            try:
                return await self._objects.get(ref)
            except TransportError as error:
                if self._clock.monotonic() >= give_up_at:
                    raise
                logger.warning("arguments wait to be fetched: %s", error)
            await self._clock.sleep(PAUSE_S)

    async def store_result(self, end: Complete) -> Complete:
        """The same end, its result stored; returns when it is, so that no event names what is not there."""
        result = bytes(end.result)
        while True:
            try:
                ref = await self._objects.put(result)
                break
            except TransportError as error:
                logger.error("the result of an attempt waits to be stored: %s", error)
            await self._clock.sleep(PAUSE_S)
        return msgspec.structs.replace(end, result=msgspec.Raw(b"null"), result_ref=ref)
