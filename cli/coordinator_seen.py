"""Which coordinator acts, by its own beats."""

from __future__ import annotations

import msgspec

from fleetlog.bus.core.office import SILENT_MAX_S
from fleetlog.bus.fleet import Fleet


class CoordinatorSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The active coordinator."""

    coordinator_id: str
    """This run of it."""
    host: str
    """Where it runs."""
    term: int
    """How often one has taken over, since the server started."""


async def look_at_coordinator(fleet: Fleet) -> CoordinatorSeen | None:
    """The one that acts; None when none does, or none has yet taken over."""
    last = await fleet.beats.last_of_coordinator()
    if last is None or not last.beat.is_active or last.age_s > SILENT_MAX_S:
        return None
    return CoordinatorSeen(
        coordinator_id=last.beat.coordinator_id, host=last.beat.host, term=last.beat.term
    )
