"""Everything a role needs of a fleet, over one connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from fleetlog.bus.background import background
from fleetlog.bus.beside import Beats, Hints, Outputs
from fleetlog.bus.derived import DerivedQueues
from fleetlog.bus.embedded.runtime import Target, attest_durability
from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.jetstream.beside import NatsBeats, NatsHints, NatsOutputs
from fleetlog.bus.jetstream.connection import Connection, check_version, connect
from fleetlog.bus.jetstream.log import JetStreamLog
from fleetlog.bus.jetstream.objects import NatsObjects
from fleetlog.bus.jetstream.offers import ACK_WAIT_S, JetStreamOffers
from fleetlog.bus.jetstream.room import Room
from fleetlog.bus.jetstream.services import NatsServices
from fleetlog.bus.jetstream.streams import ensure_streams
from fleetlog.bus.log import EventLog
from fleetlog.bus.objects import Objects
from fleetlog.bus.offers import Offers
from fleetlog.bus.services import Services
from fleetlog.bus.system import System

logger = logging.getLogger("fleetlog.bus")

AGAIN_S = 1.0
TIME_LOOK_S = 2.0
"""How often it is looked whether a clock was set."""


class Fleet(msgspec.Struct, frozen=True):
    """One fleet, connected."""

    name: str
    """Its name."""
    log: EventLog
    """What happened."""
    offers: Offers
    """What there is to do."""
    beats: Beats
    """Who is alive."""
    outputs: Outputs
    """What attempts print."""
    objects: Objects
    """What is too large for an event."""
    hints: Hints
    """Who should look at the log."""
    services: Services
    """Requests between roles."""
    system: System
    """The seams to the machine."""
    link: Connection
    """The connection under all of it."""
    room: Room
    """How much the log still takes."""
    durability: str
    """`always`, `relaxed` or `unattested`."""
    derived: DerivedQueues
    """The queues of tasks that require something of their agent."""


@asynccontextmanager
async def open_fleet(
    target: Target,
    name: str,
    *,
    system: System | None = None,
    role: str = "client",
    patience_s: float = 5.0,
    ack_wait_s: float = ACK_WAIT_S,
) -> AsyncIterator[Fleet]:
    """Connects to a fleet, making its streams where they are missing.

    Args:
        target: where and as whom.
        name: the fleet.
        system: clock, entropy, processes; None for the machine's own.
        role: shown by the server as the connection's name.
        patience_s: how long to try the first connection.
        ack_wait_s: see `Offers`.

    Raises:
        Unavailable: no server answers in time.
        ConfigError: wrong credentials, a server that is too old, or a stream with settings that fleetlog cannot
            work with.
    """
    system = system or System()
    async with connect(
        target, system.clock, name=f"fleetlog {role}", patience_s=patience_s
    ) as connection:
        check_version(connection)
        async with fleet_over(
            connection,
            name,
            system=system,
            objects=NatsObjects(connection, name),
            durability=await attest_durability(target.http_url),
            ack_wait_s=ack_wait_s,
        ) as fleet:
            room = Room(connection, name, system.clock, store=target.store)
            yield msgspec.structs.replace(fleet, room=room)


@asynccontextmanager
async def fleet_over(
    connection: Connection,
    name: str,
    *,
    system: System,
    objects: Objects,
    durability: str,
    ack_wait_s: float = ACK_WAIT_S,
) -> AsyncIterator[Fleet]:
    """A fleet over a connection that is there; see `open_fleet`.

    Args:
        connection: to the server.
        name: the fleet.
        system: clock, entropy, processes.
        objects: where large objects are.
        durability: see `Fleet`.
        ack_wait_s: see `Offers`.
    """
    replicas = await ensure_streams(connection, name)
    is_single = replicas == 1
    is_grouping = durability == "always" and is_single
    log = JetStreamLog(connection, name, is_grouping=is_grouping, is_single=is_single)
    derived = DerivedQueues(log, system)
    connection.on_reconnect.append(derived.forget)
    await log.appender.start()
    await log.together.start()
    keeping = (
        log.appender.watch(),
        _keep_streams(connection, name),
        _keep_time(log, connection, system),
    )
    async with background(*keeping):
        yield Fleet(
            name=name,
            log=log,
            offers=JetStreamOffers(connection, log, ack_wait_s=ack_wait_s),
            beats=NatsBeats(connection, name),
            outputs=NatsOutputs(connection, name),
            objects=objects,
            hints=NatsHints(connection, name),
            services=NatsServices(connection, name),
            system=system,
            link=connection,
            room=Room(connection, name, system.clock),
            durability=durability,
            derived=derived,
        )


async def _keep_time(log: EventLog, connection: Connection, system: System) -> None:
    """Asks for the server's time when what is known of it may be wrong: every answer tells it."""
    while True:
        await system.clock.sleep(TIME_LOOK_S)
        if connection.is_connected and connection.is_time_doubtful:
            with suppress(TransportError, ConfigError):
                await log.end()


async def _keep_streams(connection: Connection, name: str) -> None:
    """Makes the stream of beats again after a restart of the server, in whose memory it lives."""
    reconnected = asyncio.Event()
    connection.on_reconnect.append(reconnected.set)
    while True:
        await reconnected.wait()
        reconnected.clear()
        try:
            await ensure_streams(connection, name)
        except (TransportError, ConfigError) as error:
            logger.warning("after the reconnect: %s", error)
            await asyncio.sleep(AGAIN_S)
            reconnected.set()
