"""How fast the log is read into Python, and into DuckDB."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import repeat
from pathlib import Path
from typing import Any

from fleetlog.bus import raw
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.log import entry
from fleetlog.bus.settings import child_environment
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import TaskClaimed, TaskCompleted, TaskEvent, TaskQueued, verb_of
from fleetlog.schemas.specs import TaskSpec, payload_digest
from fleetlog.schemas.subjects import Subject

ROUNDS = 3
WAVE = 2_000
"""Tasks that live at once in the log that is read."""


async def measure_reading(target: Target, data: Path, fleet: str, count: int) -> list[Figure]:
    """Replays a log of about `count` events, whole lives of tasks, into Python, and into a new DuckDB file."""
    async with open_fleet(target, fleet) as opened:
        count = await _fill(opened, count)
        async with raw.raw_client(target) as client:
            raw_s = await _best(lambda: raw.read_by_callback(client, fleet, count))
        bytes_s = await _best(lambda: _replay(opened, lambda _: None))
        ours_s = await _best(lambda: _replay(opened, open_stored))
        projected = [await _project(data, fleet) for _ in range(ROUNDS)]
    into_s = min(seconds for seconds, _ in projected)
    memory = max(megabytes for _, megabytes in projected)
    baseline = f"nats-py's callback pulls ({count / raw_s:,.0f}/s), each the best of {ROUNDS}"
    return [
        Figure(
            what=f"replay of {count:,} messages, as bytes",
            durability=opened.durability,
            value=count / bytes_s,
            unit="events/s",
            ratio=raw_s / bytes_s,
            baseline=baseline,
        ),
        Figure(
            what=f"replay of {count:,} events into Python, as structs",
            durability=opened.durability,
            value=count / ours_s,
            unit="events/s",
            ratio=raw_s / ours_s,
            baseline=baseline,
            bar=0.6,
        ),
        Figure(
            what=f"{count:,} events into DuckDB",
            durability=opened.durability,
            value=count / into_s,
            unit="events/s",
            ratio=raw_s / into_s,
            baseline=f"{baseline}; {ours_s / into_s:.2f} of the replay as structs",
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


async def _best(measure: Callable[[], Awaitable[float]]) -> float:
    """The least of some rounds: what else the machine does only takes away from it."""
    return min([await measure() for _ in range(ROUNDS)])


async def _fill(opened: Fleet, count: int) -> int:
    """Appends queued, claimed and completed events of made-up tasks; answers how many events."""
    ids, system, now = 0, opened.system, opened.log.now
    spec = TaskSpec(handler="noop")
    digest = payload_digest(spec)
    while ids * 3 < count:
        tasks = [system.new_id() for _ in range(WAVE)]
        ids += WAVE

        async def append(event: TaskEvent, task_id: str, after: int) -> int:
            subject = Subject(opened.name, "task", task_id, verb_of(event), "default", "normal")
            return await opened.log.append(entry(subject, after, event))

        def stamp() -> dict[str, Any]:
            return {"id": system.new_id(), "occurred_at": now()}

        queued = [TaskQueued(spec=spec, digest=digest, **stamp()) for _ in tasks]
        offers = await asyncio.gather(*map(append, queued, tasks, repeat(0)))
        claimed = [
            TaskClaimed(agent_id="a1", worker_id="w1", host="h", attempt=1, offer=offer, **stamp())
            for offer in offers
        ]
        fences = await asyncio.gather(*map(append, claimed, tasks, offers))
        completed = [
            TaskCompleted(attempts=1, fence=fence, ran_ms=1, digest=digest, **stamp())
            for fence in fences
        ]
        await asyncio.gather(*map(append, completed, tasks, fences))
    return ids * 3


async def _replay(opened: Fleet, take: Callable[[Stored], object]) -> float:
    """Seconds to read the whole log and give each message to `take`."""
    started = time.perf_counter()
    async for page in opened.log.read():
        for stored in page:
            take(stored)
    return time.perf_counter() - started


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
