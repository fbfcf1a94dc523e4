"""What is too large for an event, on its way from and to the object store."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from fleetlog.bus.core import Complete
from fleetlog.bus.errors import TransportError
from fleetlog.bus.fanning_out import store_args, store_plan
from fleetlog.bus.objects import Objects
from fleetlog.bus.system import Clock
from fleetlog.schemas.fan_outs import FanOutSpec
from fleetlog.schemas.objects import ObjectRef

logger = logging.getLogger("fleetlog.agents")

AWAY_S: Final = 60.0
"""So long an attempt waits for an object store that does not answer, before it is given back."""
PAUSE_S: Final = 1.0
T = TypeVar("T")


class Payloads:
    """Moves them, for as long as log and store need to come back."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock

    async def fetch(self, ref: ObjectRef) -> bytes:
        """The arguments that an event names.

        Raises:
            ObjectLost: they are missing or damaged.
            TransportError: the store did not answer for a minute.
        """
        return await self.have(partial(self._objects.get, ref))

    async def store_result(self, end: Complete) -> Complete:
        """The same end, its result stored; returns when it is, so that no event names what is not there."""
        ref = await self.insist(partial(self._objects.put, bytes(end.result)))
        return msgspec.structs.replace(end, result=msgspec.Raw(b"null"), result_ref=ref)

    async def store_args(self, plan: FanOutSpec) -> FanOutSpec:
        """The same fan-out, its large arguments stored."""
        return await self.insist(partial(store_args, self._objects, plan))

    async def store_plan(self, end: Complete, plan: FanOutSpec) -> Complete:
        """The same end, its fan-out, whose large arguments are stored, as an event can hold it."""
        fan_out = await self.insist(partial(store_plan, self._objects, plan))
        return msgspec.structs.replace(end, fan_out=fan_out)

    async def have(self, get: Callable[[], Awaitable[T]]) -> T:
        """Gets what an attempt needs to go on.

        Raises:
            TransportError: log or store did not answer for a minute.
        """
        give_up_at = self._clock.monotonic() + AWAY_S
        while True:
            try:
                return await get()
            except TransportError as error:
                if self._clock.monotonic() >= give_up_at:
                    raise
                logger.warning("what an attempt needs waits to be fetched: %s", error)
            await self._clock.sleep(PAUSE_S)

    async def insist(self, put: Callable[[], Awaitable[T]]) -> T:
        """Does what must be done, however long log or store do not answer."""
        while True:
            try:
                return await put()
            except TransportError as error:
                logger.error("what an attempt leads to waits to be stored: %s", error)
            await self._clock.sleep(PAUSE_S)
