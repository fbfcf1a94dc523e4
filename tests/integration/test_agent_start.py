"""The server goes away between an agent's word that it starts and its first request for tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.fleets import first_of, options, wait_for

from fleetlog.agents.strains import Disk, HostGauges
from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet

SAID = "takes no tasks yet"


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


@pytest.fixture
def log() -> Log:
    return Log(SAID)


@asynccontextmanager
async def starting(
    server: EmbeddedServer, fleet: Fleet, folder: Path, stop: asyncio.Event, log: Log
) -> AsyncIterator[tuple[Supervisor, asyncio.Future[None]]]:
    """An agent that has found its server gone, and said so; the server is there again."""
    gauges = Killing(folder, server)
    logger = logging.getLogger("fleetlog.agents")
    logger.addHandler(log)
    try:
        supervisor = Supervisor(fleet, options(), gauges=gauges)
        serving = asyncio.ensure_future(supervisor.run(stop))
        await first_of(serving, gauges.killed)
        await first_of(serving, log.said)
    finally:
        logger.removeHandler(log)
    yield supervisor, serving


async def test_an_agent_whose_server_goes_away_while_it_starts_serves_once_it_is_back(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path, log: Log
) -> None:
    stop = asyncio.Event()
    async with (
        open_fleet(fresh_server.target, fleet) as seen,
        open_fleet(fresh_server.target, fleet, role="agent") as opened,
        starting(fresh_server, opened, tmp_path, stop, log) as (supervisor, serving),
    ):
        await fresh_server.wait()
        await fresh_server.restart()
        await first_of(serving, supervisor.ready)
        assert (await (await Client(seen).submit(call("noop", n=3))).result("30s")).result == 3
        stop.set()
        await serving
        await wait_for(seen, "AgentStopped")


async def test_an_agent_told_to_stop_before_it_could_serve_ends_as_soon_as_it_can_say_so(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path, log: Log
) -> None:
    stop = asyncio.Event()
    async with (
        open_fleet(fresh_server.target, fleet) as seen,
        open_fleet(fresh_server.target, fleet, role="agent") as opened,
        starting(fresh_server, opened, tmp_path, stop, log) as (supervisor, serving),
    ):
        stop.set()
        await fresh_server.wait()
        await fresh_server.restart()
        await serving
        assert not supervisor.ready.is_set()
        await wait_for(seen, "AgentStopped")
