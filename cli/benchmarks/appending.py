"""How fast events are appended, beside plain nats-py and beside single appends."""

from __future__ import annotations

import asyncio
import statistics
import time

from fleetlog.bus import raw
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.jetstream.log import JetStreamLog
from fleetlog.bus.log import Append, EventLog, entry
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.schemas.envelope import encode
from fleetlog.schemas.events import TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject

WAITING = 1000
ROUNDS = 9
IDLE_COUNT = 300


async def measure_appends(target: Target, fleet: str, count: int) -> list[Figure]:
    """Pipelined appends, waiting appends and a single idle one.

    Args:
        target: the server, known to be `always` or `relaxed`.
        fleet: an unused name.
        count: how many events to append.
    """
    async with open_fleet(target, fleet) as opened, raw.raw_client(target) as client:
        event = _event(opened)
        data = encode(event)
        raw_s = await raw.publish_pipelined(client, fleet, _ids(opened, count), data)
        ours_s = await _append_all(opened.log, _entries(opened, count))
        is_relaxed = opened.durability == "relaxed"
        figures = [
            Figure(
                what="pipelined appends",
                durability=opened.durability,
                value=count / ours_s,
                unit="events/s",
                ratio=raw_s / ours_s,
                baseline=f"nats-py's pipelined publishes ({count / raw_s:,.0f}/s)",
                bar=0.6 if is_relaxed else None,
            )
        ]
        if not is_relaxed:
            figures.append(await _measure_grouping(opened))
        figures.append(await _measure_idle(opened, client, data))
        return figures


async def _measure_grouping(opened: Fleet) -> Figure:
    single = JetStreamLog(opened.link, opened.name, is_grouping=False)
    await single.appender.start()
    grouped, singles = [], []
    for _ in range(ROUNDS):
        # In turn, and the median: one slow sync of the disk is as long as a whole round.
        grouped.append(await _append_all(opened.log, _entries(opened, WAITING)))
        singles.append(await _append_all(single, _entries(opened, WAITING)))
    grouped_s, single_s = statistics.median(grouped), statistics.median(singles)
    return Figure(
        what=f"appends when {WAITING} wait",
        durability=opened.durability,
        value=WAITING / grouped_s,
        unit="events/s",
        ratio=single_s / grouped_s,
        baseline=f"single appends ({WAITING / single_s:,.0f}/s)",
        bar=8.0,
    )


async def _measure_idle(opened: Fleet, client: raw.RawClient, data: bytes) -> Figure:
    ours: list[float] = []
    theirs: list[float] = []
    for one in _entries(opened, IDLE_COUNT):
        started = time.perf_counter()
        await opened.log.append(one)
        ours.append(time.perf_counter() - started)
        task_id = opened.system.new_id()
        theirs.append(await raw.publish_one(client, opened.name, task_id, data))
    value, baseline = statistics.median(ours), statistics.median(theirs)
    return Figure(
        what="one append with nothing else going on (median)",
        durability=opened.durability,
        value=value * 1e3,
        unit="ms",
        ratio=value / baseline,
        baseline=f"nats-py's request ({baseline * 1e3:.2f} ms)",
        bar=1.5,
        is_most=True,
    )


async def _append_all(log: EventLog, entries: list[Append]) -> float:
    started = time.perf_counter()
    await asyncio.gather(*[log.append(one) for one in entries])
    return time.perf_counter() - started


def _entries(opened: Fleet, count: int) -> list[Append]:
    return [
        entry(
            Subject(opened.name, "task", task_id, "queued", "default", "normal"), 0, _event(opened)
        )
        for task_id in _ids(opened, count)
    ]


def _ids(opened: Fleet, count: int) -> list[str]:
    return [opened.system.new_id() for _ in range(count)]


def _event(opened: Fleet) -> TaskQueued:
    return TaskQueued(
        id=opened.system.new_id(),
        occurred_at=opened.log.now(),
        spec=TaskSpec(handler="noop"),
        digest="zTma3WGFyidJJQhIfbPmqQ",
    )
