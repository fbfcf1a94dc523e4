"""Offers: queued tasks as a queue group of agents takes them, a lane for each queue and priority."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from fleetlog.bus.core.stuck import Progress
from fleetlog.schemas.subjects import Priority


class Lane(msgspec.Struct, frozen=True, order=True):
    """One priority of one queue."""

    queue: str
    """The queue's name."""
    priority: Priority
    """Of the tasks in it."""


class Offer(msgspec.Struct, frozen=True):
    """One delivery of a `queued` event. It is a hint: only the log says whether the task may be claimed."""

    lane: Lane
    """Where it came from."""
    task_id: str
    """Whose offer it is."""
    seq: int
    """Log sequence of the `queued` event."""
    stored_at_ns: int
    """When the server stored it."""
    data: bytes
    """The encoded event."""
    deliveries: int
    """1 for the first delivery of this event to anyone."""
    ack_subject: str
    """Where to say what became of it."""


class Backlog(msgspec.Struct, frozen=True):
    """Offers of a lane that nobody has been given yet."""

    count: int
    """How many, 1 or more."""
    oldest_at: datetime
    """When the server stored the first of them."""


Taken = Callable[[Offer], None]
"""Gets an offer that was asked for; called within the loop, must not block or raise."""


class Offers(Protocol):
    """The offers of a set of lanes."""

    ack_wait_s: float
    """How long the server waits for a word before it delivers an offer to someone else."""

    async def bind(
        self, lanes: Sequence[Lane], arrived: Callable[[Offer], None], lost: Callable[[], None]
    ) -> None:
        """Makes the lanes' consumers where they are missing; again with more lanes, and the same callbacks.

        Args:
            lanes: which to serve.
            arrived: gets what `expect` brings.
            lost: called when everything that was expected is forgotten, with a connection.
        """
        ...

    async def take(self, lane: Lane, count: int, taken: Taken) -> int:
        """Gets up to `count` offers that wait at this moment, each by `taken` as it comes.

        Returns:
            How many there were; fewer than `count` when no more wait. Many calls at once are fine.
        """
        ...

    def expect(self, lane: Lane, count: int, expires_s: float) -> None:
        """Asks for up to `count` offers that come within `expires_s`; they arrive by the callback of `bind`."""
        ...

    async def backlog(self, lane: Lane) -> Backlog | None:
        """What waits in a lane that was bound; None when nothing does. What was given back does not count.

        Raises:
            TransportError: the server does not answer, or the lane's consumer is gone.
        """
        ...

    async def progress(self, lane: Lane) -> Progress | None:
        """How far any lane's consumer is, bound or not; None when there is no such consumer.

        Raises:
            TransportError: the server does not answer.
        """
        ...

    def ack(self, ack_subject: str) -> None:
        """The offer is done with, whatever became of the task."""
        ...

    def nak(self, ack_subject: str, delay_s: float = 0.0) -> None:
        """The offer goes to someone else, or here again, after `delay_s`."""
        ...

    def in_progress(self, ack_subject: str) -> None:
        """The offer's attempt is alive: the server waits for another `ack_wait_s`."""
        ...

    async def run(self) -> None:
        """Makes consumers again that someone removed, until cancelled."""
        ...

    async def close(self) -> None:
        """Expects nothing more; what is on its way still arrives by the callback before this returns."""
        ...
