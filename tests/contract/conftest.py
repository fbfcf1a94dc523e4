"""The implementations that the contract suite holds for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from support.clusters import Cluster, running_cluster

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.log import EventLog
from fleetlog.bus.memory_log import MemoryLog


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Three servers for all contract tests of a run."""
    async with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(params=["memory", "jetstream singles", "jetstream groups", "three replicas"])
async def log(
    request: pytest.FixtureRequest, fleet: str, server: EmbeddedServer, cluster: Cluster
) -> AsyncIterator[EventLog]:
    target = server.target
    match request.param:
        case "memory":
            yield MemoryLog(fleet)
            return
        case "jetstream singles":
            # Appends are grouped only where the server itself says that each costs an fsync.
            target = msgspec.structs.replace(target, http_url=None)
        case "three replicas":
            target = cluster.target
            await cluster.make_streams(fleet)
    async with open_fleet(target, fleet) as opened:
        yield opened.log
