"""What a coordinator says of itself, and how it is asked."""

from __future__ import annotations

from typing import Final

import msgspec

from fleetlog.bus.errors import Unavailable
from fleetlog.bus.services import Services

SERVICE: Final = "coordinator"
"""The name under which a coordinator says how it is."""


class CoordinatorState(msgspec.Struct, frozen=True):
    """What a coordinator says of itself."""

    is_ready: bool
    """It has read the log to the end that it found at its start."""
    tasks: int
    """How many are not settled."""
    violations: int
    """Events that their task's state did not allow."""
    agents: int = 0
    """How many have not ended."""
    active_id: str | None = None
    """Which coordinator acts, as far as this one knows; it may be itself."""


async def ask_coordinator(services: Services, timeout_s: float) -> CoordinatorState:
    """What a coordinator of the fleet says; if there are several, one of them.

    Raises:
        Unavailable: none answers.
    """
    async for chunk in services.request(SERVICE, b"", timeout_s=timeout_s):
        return msgspec.json.decode(chunk, type=CoordinatorState)
    raise Unavailable("the coordinator gave no answer: ask again")
