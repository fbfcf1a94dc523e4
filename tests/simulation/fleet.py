"""A simulated fleet: its server, and the processes around it, born, killed and paused at will."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from fleetlog.agents.agent_options import AgentOptions
from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.client import Client
from fleetlog.bus.coordinator import Coordinator
from fleetlog.bus.fleet import Fleet, fleet_over
from fleetlog.schemas.subjects import stream_names
from simulation.app import agent as app
from simulation.link import Link, Network, connect
from simulation.loop import SimLoop, SimProcess
from simulation.machine import SimMachine, SimObjects
from simulation.server import Manners, SimServer
from simulation.stream import Kept

NAME = "main"
SCHEMAS = app.schemas()
AGAIN_S = 1.0
"""A role that ended starts again after this."""

logger = logging.getLogger("simulation")


class Node:
    """One process of fleetlog's, with its machine and its connection."""

    def __init__(self, world: World, name: str, chance: random.Random) -> None:
        self.world = world
        self.name = name
        self.chance = chance
        self.process = SimProcess(name)
        self.machine = SimMachine(world.loop, self.process, chance, app.handlers, SCHEMAS, {})
        self.link = Link(world.server, self.process, chance, world.network)
        self.stopping = asyncio.Event()
        self.ended = asyncio.Event()
        self.error: BaseException | None = None

    @property
    def is_alive(self) -> bool:
        """It has neither ended nor been killed."""
        return not (self.process.is_dead or self.ended.is_set())

    def start(self, run: Callable[[Fleet, Node], Awaitable[None]]) -> None:
        """Begins what it is for."""
        self.task = self.world.loop.spawn(self.process, self._live(run))

    async def _live(self, run: Callable[[Fleet, Node], Awaitable[None]]) -> None:
        world = self.world
        connection = connect(self.link, self.machine.clock, self.chance)
        objects = SimObjects(world.server, self.chance, world.objects)
        try:
            await connection.wait_connected()
            async with fleet_over(
                connection,
                NAME,
                system=self.machine.system,
                objects=objects,
                durability=world.durability,
            ) as fleet:
                await run(fleet, self)
        except Exception as error:  # noqa: BLE001 - its end is looked at later
            self.error = error
            logger.info("%s ended: %r", self.name, error)
        finally:
            await connection.client.close()
            self.ended.set()

    def kill(self) -> None:
        """As by SIGKILL; its workers notice."""
        self.process.die(self.world.loop)


class World:
    """See the module.

    Args:
        seed: all that is random follows from it.
        durability: see `Fleet`.
        manners: of the server.
    """

    def __init__(
        self, seed: int, *, durability: str = "relaxed", manners: Manners | None = None
    ) -> None:
        self.chance = random.Random(seed)
        self.durability = durability
        self.loop = SimLoop()
        self.network = Network()
        self.server = SimServer(self.loop, self._fork(), manners)
        self.objects: dict[str, bytes] = {}
        self.nodes: list[Node] = []
        self._made = 0

    def _fork(self) -> random.Random:
        return random.Random(self.chance.getrandbits(64))

    @property
    def log(self) -> list[Kept]:
        """All events so far."""
        stream = self.server.streams.get(stream_names(NAME)[0])
        return [] if stream is None else stream.messages

    def node(self, kind: str) -> Node:
        """A new process."""
        self._made += 1
        node = Node(self, f"{kind}{self._made}", self._fork())
        self.nodes.append(node)
        return node

    def coordinator(self) -> Node:
        """A new coordinator."""
        node = self.node("coordinator")

        async def run(fleet: Fleet, node: Node) -> None:
            await Coordinator(fleet).run(node.stopping)

        node.start(run)
        return node

    def agent(self, **options: Any) -> Node:
        """A new agent."""
        node = self.node("agent")
        given = AgentOptions(
            **{
                "workers": 2,
                "concurrency": 2,
                "host": node.name,
                "app": "app",
                "stop_s": 3.0,
                **options,
            }
        )

        async def run(fleet: Fleet, node: Node) -> None:
            machine = node.machine
            supervisor = Supervisor(fleet, given, gauges=machine.gauges, machine=machine)
            await supervisor.run(node.stopping)

        node.start(run)
        return node

    def client(self, run: Callable[[Client], Awaitable[None]]) -> Node:
        """A new process that uses the API."""
        node = self.node("client")

        async def live(fleet: Fleet, _node: Node) -> None:
            await run(Client(fleet))

        node.start(live)
        return node

    def run(self, coroutine: Awaitable[None]) -> None:
        """Runs the story to its end."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(coroutine)
        finally:
            self.loop.bury()
            asyncio.set_event_loop(None)
