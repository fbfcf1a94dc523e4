"""What a query can't do to the projector: the child's limits, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleetlog.bus.errors import ProjectionError
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.projections.projector import Projector
from fleetlog.projections.query import SqlRequest, query
from tests.unit.projections.histories import FLEET
from tests.unit.projections.loopback import LoopbackServices

ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7"
DEAF = "SELECT max(len(repeat('x', 1500000000 + range::INTEGER))) FROM range(100)"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[LoopbackServices]:
    """Answered by a projector over an empty log."""
    loopback = LoopbackServices()
    projector = Projector(MemoryLog(FLEET), tmp_path, services=loopback)
    async with asyncio.TaskGroup() as group:
        group.create_task(projector.run())
        await projector.ready.wait()
        yield loopback
        projector.stop()


@pytest.mark.parametrize("sql", [ENDLESS, DEAF], ids=["hears interrupts", "hears nothing"])
async def test_a_query_ends_at_its_deadline(services: LoopbackServices, sql: str) -> None:
    start = time.monotonic()
    with pytest.raises(ProjectionError, match="was stopped"):
        await query(services, SqlRequest(sql=sql, timeout_s=1.5))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT range(300000000)",
        "SELECT repeat('x', 3000000000)",
        "SELECT list(range) FROM range(100000000)",
        "SELECT range FROM range(300000000) ORDER BY hash(range)",
    ],
)
async def test_a_query_cannot_take_all_memory(services: LoopbackServices, sql: str) -> None:
    with pytest.raises(ProjectionError, match="memory"):
        await query(services, SqlRequest(sql=sql, timeout_s=60))


async def test_the_projector_stays_awake_meanwhile(services: LoopbackServices) -> None:
    asked = asyncio.create_task(query(services, SqlRequest(sql=ENDLESS, timeout_s=1)))
    longest_s = 0.0
    while not asked.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest_s = max(longest_s, time.monotonic() - before)
    with pytest.raises(ProjectionError):
        await asked
    assert longest_s < 0.5


async def test_a_caller_who_goes_away_takes_the_query_along(
    services: LoopbackServices, tmp_path: Path
) -> None:
    asked = asyncio.create_task(query(services, SqlRequest(sql=ENDLESS, timeout_s=60)))
    async with asyncio.timeout(20):
        while not (tmp_path / "queries").exists() or not _names(tmp_path / "queries"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the folder is the only sign that the query runs
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert _names(tmp_path / "queries") == []


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
