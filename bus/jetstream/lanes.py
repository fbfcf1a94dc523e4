"""The consumers of all lanes as the server sees them."""

from __future__ import annotations

from typing import Final

import msgspec

from fleetlog.bus.jetstream.connection import Connection
from fleetlog.schemas.subjects import stream_names, tasks

_PREFIX: Final = "offers_"


class LaneSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One lane's consumer."""

    queue: str
    """Whose offers."""
    priority: str
    """Of these."""
    pending: int
    """Offers that nobody has been given."""
    in_hand: int
    """Offers that an agent has and has not answered."""
    asking: int
    """Requests of agents that wait for an offer."""

    @property
    def consumer(self) -> str:
        """Its name on the server."""
        return f"{_PREFIX}{self.queue}_{self.priority}"


class _Config(msgspec.Struct):
    filter_subject: str = ""


class _Consumer(msgspec.Struct):
    name: str
    config: _Config
    num_pending: int = 0
    num_ack_pending: int = 0
    num_waiting: int = 0


class _Page(msgspec.Struct):
    total: int
    consumers: list[_Consumer] | None = None


async def lanes_seen(connection: Connection, fleet: str) -> list[LaneSeen]:
    """Every lane that an agent has ever served.

    Raises:
        TransportError: the server does not answer, or there is no such stream.
    """
    subject = f"$JS.API.CONSUMER.LIST.{stream_names(fleet)[0]}"
    found: list[LaneSeen] = []
    offset = 0
    while True:
        page = await connection.ask(subject, {"offset": offset}, _Page)
        consumers = page.consumers or []
        found += [lane for each in consumers if (lane := _lane(fleet, each)) is not None]
        offset += len(consumers)
        if not consumers or offset >= page.total:
            return sorted(found, key=lambda lane: (lane.queue, lane.priority))


def _lane(fleet: str, consumer: _Consumer) -> LaneSeen | None:
    wanted = tasks(fleet, verb="queued").split(".")
    tokens = consumer.config.filter_subject.split(".")
    if not consumer.name.startswith(_PREFIX) or len(tokens) != len(wanted):
        return None
    return LaneSeen(
        queue=tokens[4],
        priority=tokens[5],
        pending=consumer.num_pending,
        in_hand=consumer.num_ack_pending,
        asking=consumer.num_waiting,
    )
