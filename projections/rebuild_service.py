"""Asking a running projector for a rebuild: both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from fleetlog.bus.services import Services

REBUILD_SERVICE: Final = "rebuild"
"""The name of the service."""
PROGRESS_TIMEOUT_S: Final = 300.0
"""The longest wait for the next transaction of a rebuild."""


class RebuildProgress(msgspec.Struct, frozen=True):
    """One chunk of the answer."""

    seq: int
    """The new database holds the log up to this event."""


class RebuildService:
    """The handler behind `request_rebuild`."""

    def __init__(self, rebuild: Callable[[], AsyncIterator[int]]) -> None:
        self._rebuild = rebuild

    async def handle(self, payload: bytes) -> AsyncIterator[bytes]:  # noqa: ARG002 - it asks for nothing more
        """Answers with a `RebuildProgress` now and then; ends when the new database is in place."""
        async for seq in self._rebuild():
            yield msgspec.json.encode(RebuildProgress(seq))


async def request_rebuild(services: Services) -> AsyncIterator[int]:
    """Has the fleet's running projector build its database anew; it answers queries meanwhile.

    Yields sequences that the new database has reached, and ends when that has taken the old one's place.

    Raises:
        Unavailable: no projector answers.
        ProjectionError: the rebuild failed; the old database is still there.
    """
    async for chunk in services.request(REBUILD_SERVICE, b"", timeout_s=PROGRESS_TIMEOUT_S):
        yield msgspec.json.decode(chunk, type=RebuildProgress).seq
