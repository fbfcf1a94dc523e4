"""Which Python handlers a fleet knows, as the `agent.started` events of its log tell.

The newest event is one request to the server, and as a rule it names the handler that is asked for. Only for
one that it does not name are older events read, in growing windows backwards. What was read is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from fleetlog.bus.argument_check import Misfit, check_arguments
from fleetlog.bus.call import near_names
from fleetlog.bus.errors import HandlerUnknown
from fleetlog.bus.log import EventLog
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import AgentStarted
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import agents

_WINDOW: Final = 1_000
_FRESH: Final = timedelta(seconds=1)
"""So long an answer that no agent has ever started is believed."""


class HandlerCatalog:
    """The handlers that agents of a fleet had at any time, with their newest schemas."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._subjects = agents(log.fleet, "started")
        self._schemas: dict[str, Any] = {}
        # What was read: the events above `_low`, up to `_high`.
        self._low = self._high = 0
        self._looked_at: datetime | None = None
        self._has_unreadable = False
        self._reading = asyncio.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether no agent had started when this last looked."""
        return self._high == 0

    async def check(self, spec: TaskSpec) -> None:
        """Refuses what no handler of this fleet would take; all of it, as long as no agent has ever started.

        Tasks of other executors are not looked at.

        Raises:
            HandlerUnknown: no agent ever had the handler; the message has near names.
            InvalidInput: the arguments do not fit its newest schema; names the field and what would fit.
        """
        if spec.executor != "python" or self._is_fitting(spec):
            return
        async with self._reading:
            if self._is_fitting(spec):
                return  # another one has read meanwhile
            # What is known may be old: nothing is refused before the newest events have been seen.
            await self._read_news()
            while spec.handler not in self._schemas and self._low > 0:
                await self._read_back()
        self._refuse_misfit(spec)

    def _is_fitting(self, spec: TaskSpec) -> bool:
        return spec.handler in self._schemas and self._misfit(spec) is None

    def _misfit(self, spec: TaskSpec) -> Misfit | None:
        return check_arguments(self._schemas[spec.handler], spec.args)

    def _refuse_misfit(self, spec: TaskSpec) -> None:
        if spec.handler in self._schemas:
            if (misfit := self._misfit(spec)) is not None:
                raise InvalidInput(
                    f"the arguments do not fit handler {spec.handler}: {misfit}."
                    " --unchecked submits them all the same"
                )
        elif not self.is_empty and not self._has_unreadable:
            near = near_names(spec.handler, self._schemas)
            raise HandlerUnknown(
                f"no agent of this fleet has ever had a handler {spec.handler!r}{near}"
                f"{'' if near.endswith('?') else '.'} Submit it all the same with --unchecked"
            )

    async def _read_news(self) -> None:
        now = self._log.now()
        if self.is_empty and self._looked_at is not None and now - self._looked_at < _FRESH:
            return
        newest = await self._log.last(self._subjects)
        self._looked_at = now
        if newest is None or newest.seq <= self._high:
            return
        if self.is_empty:
            self._low = newest.seq - 1
            self._schemas = self._schemas_in([newest])
        else:
            self._schemas |= await self._read(self._high, newest.seq)
        self._high = newest.seq

    async def _read_back(self) -> None:
        low = max(0, self._low - max(_WINDOW, 9 * (self._high - self._low)))
        self._schemas = await self._read(low, self._low) | self._schemas
        self._low = low

    async def _read(self, after: int, until: int) -> dict[str, Any]:
        """The newest schema of each handler in a part of the log."""
        found: dict[str, Any] = {}
        async for page in self._log.read(after=after, subjects=self._subjects):
            found |= self._schemas_in(each for each in page if each.seq <= until)
        return found

    def _schemas_in(self, page: Iterable[Stored]) -> dict[str, Any]:
        newest: dict[str, msgspec.Raw] = {}
        for stored in page:
            event = open_stored(stored).event
            if isinstance(event, AgentStarted):
                newest |= event.handlers
            else:
                # A newer release may have started it; it knows handlers that this one can't read.
                self._has_unreadable = True
        return {name: _decode(schema) for name, schema in newest.items()}


def _decode(schema: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True  # as a schema: everything fits
