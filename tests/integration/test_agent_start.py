"""The server goes away between an agent's word that it starts and its first request for tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.fleets import first_of, options, wait_for

from fleetlog.agents.strains import Disk, HostGauges
from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet


class Killing(HostGauges):
    """Kills the server at the agent's first look at its machine, which comes just before it binds its lanes."""

    def __init__(self, folder: Path, server: EmbeddedServer) -> None:
        super().__init__(folder)
        self._server = server
        self.killed = asyncio.Event()

    def disk(self) -> Disk | None:
        if not self.killed.is_set():
            self._server.kill()
            self.killed.set()
        return super().disk()


class Log(logging.Handler):
    """Tells when something was said."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words
        self.said = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self.said.set()


class Starting:
    """An agent that has found its server gone, and said so."""

    def __init__(self, agent: Supervisor, serving: asyncio.Future[None], seen: Fleet) -> None:
        self.agent = agent
        self.serving = serving
        self.seen = seen
        """The fleet, for the test."""


@asynccontextmanager
async def starting(
    server: EmbeddedServer, name: str, folder: Path, stop: asyncio.Event
) -> AsyncIterator[Starting]:
    """The server is away as the block begins; at its end the agent has ended, and the log says so."""
    log, logger = Log("takes no tasks yet"), logging.getLogger("fleetlog.agents")
    async with (
        open_fleet(server.target, name) as seen,
        open_fleet(server.target, name, role="agent") as fleet,
    ):
        gauges = Killing(folder, server)
        agent = Supervisor(fleet, options(), gauges=gauges)
        logger.addHandler(log)
        try:
            serving = asyncio.ensure_future(agent.run(stop))
            await first_of(serving, gauges.killed)
            await first_of(serving, log.said)
        finally:
            logger.removeHandler(log)
        await server.wait()
        yield Starting(agent, serving, seen)
        await serving
        await wait_for(seen, "AgentStopped")


async def test_an_agent_whose_server_goes_away_while_it_starts_serves_once_it_is_back(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    async with starting(fresh_server, fleet, tmp_path, stop) as started:
        await fresh_server.restart()
        await first_of(started.serving, started.agent.ready)
        handle = await Client(started.seen).submit(call("noop", n=3))
        assert (await handle.result("30s")).result == 3
        stop.set()


async def test_an_agent_told_to_stop_before_it_could_serve_ends_as_soon_as_it_can_say_so(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    async with starting(fresh_server, fleet, tmp_path, stop) as started:
        stop.set()
        await fresh_server.restart()
    assert not started.agent.ready.is_set()
