"""How fast the log is read into Python, and into DuckDB."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from fleetlog.bus import raw
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.settings import child_environment
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.schemas.specs import TaskSpec


async def measure_reading(target: Target, data: Path, fleet: str, count: int) -> list[Figure]:
    """Replays a log of `count` events into Python, and into a new DuckDB file."""
    async with open_fleet(target, fleet) as opened:
        async for _ in Client(opened).submit_stream(TaskSpec(handler="noop") for _ in range(count)):
            pass
        async with raw.raw_client(target) as client:
            raw_s = await raw.read_by_callback(client, fleet, count)
        started = time.perf_counter()
        async for _ in opened.log.read():
            pass
        ours_s = time.perf_counter() - started
        into_s, memory = await _project(data, fleet)
    return [
        Figure(
            what=f"replay of {count:,} events into Python",
            durability=opened.durability,
            value=count / ours_s,
            unit="events/s",
            ratio=raw_s / ours_s,
            baseline=f"nats-py's callback pulls ({count / raw_s:,.0f}/s)",
            bar=0.6,
        ),
        Figure(
            what=f"{count:,} events into DuckDB",
            durability=opened.durability,
            value=count / into_s,
            unit="events/s",
            ratio=ours_s / into_s,
            baseline="the replay into Python",
            bar=0.6,
        ),
        Figure(
            what=f"projector's memory at {count:,} events",
            durability=opened.durability,
            value=memory,
            unit="MB",
            bar=600.0,
            is_most=True,
            is_ratio_judged=False,
        ),
    ]


async def _project(data: Path, fleet: str) -> tuple[float, float]:
    """Seconds from the projector's start to the commit of the last event, and its peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleetlog.cli.benchmarks.projecting", folder),
            env=child_environment({"FLEETLOG_DATA": str(data), "FLEETLOG_FLEET": fleet}),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
    seconds, megabytes = said.split()
    return float(seconds), float(megabytes)
