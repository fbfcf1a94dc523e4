"""What is said of a queue itself: whether it is paused, and whose requirements it stands for."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import QueueDerived, QueuePaused, QueueResumed


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """A queue after `version`. Made by `evolve_queue` alone."""

    queue: str
    """Its name."""
    version: int = 0
    """Log sequence of its last event: what the next append must state."""
    seq: int = 0
    """Log sequence of the event that says how it stands; 0 before the first."""
    is_paused: bool = False
    """Nobody takes its tasks."""
    paused_at: datetime | None = None
    """When the log stored the last pause."""
    resumed_at: datetime | None = None
    """When the log stored the last resume."""
    actor: str | None = None
    """Who did the last of these."""
    reason: str | None = None
    """Why, in the actor's words."""
    base: str | None = None
    """The queue that it was derived from; None for one of its own."""
    requires: dict[str, str] = {}
    """What its tasks require of their agent."""


def evolve_queue(state: QueueState, record: Recorded) -> QueueState:
    """The queue after `record`: the last event says how it stands; one that is not understood says nothing."""
    if record.seq <= state.version:
        return state
    event = record.event
    if isinstance(event, QueueDerived) and state.base is None:
        return msgspec.structs.replace(
            state, version=record.seq, base=event.queue, requires=event.requires
        )
    if not isinstance(event, QueuePaused | QueueResumed):
        return msgspec.structs.replace(state, version=record.seq)
    is_paused = isinstance(event, QueuePaused)
    return msgspec.structs.replace(
        state,
        version=record.seq,
        seq=record.seq,
        is_paused=is_paused,
        paused_at=record.stored_at if is_paused else state.paused_at,
        resumed_at=state.resumed_at if is_paused else record.stored_at,
        actor=event.actor,
        reason=event.reason,
    )
