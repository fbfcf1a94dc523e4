"""How fast tasks live their whole life: claimed, run in a worker, recorded, acknowledged."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from fleetlog.bus import raw
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.roles import (
    LOOK_S,
    coordinator_ready,
    cpu_s,
    peak_mb,
    projector_ready,
    role,
)
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import tasks

APP = "fleetlog.cli.benchmarks.app:agent"
AGENT = ("agent", "--app", APP, "--workers", "2", "--concurrency", "256")
BARS = {
    ("relaxed", False): 10_000,
    ("always", False): 8_000,
    ("relaxed", True): 6_000,
    ("always", True): 5_000,
}
ROUNDS = 3
IDLE_S = 10.0


async def measure_tasks(
    target: Target, data: Path, fleet: str, count: int, *, is_whole: bool
) -> list[Figure]:
    """No-op async tasks through one agent with 2 workers, 256 at once in each; all wait before it starts.

    The figure comes from the log alone: from the first claim to the last outcome, by the server's time. It is
    the best of some rounds: each takes seconds, and what else the machine does then only takes away from it.

    Args:
        target: the server.
        data: its folder, by which roles find it.
        fleet: an unused name.
        count: how many tasks.
        is_whole: projector and coordinator run beside them, and have read what waits before they begin.
    """
    rounds = [
        await _round(target, data, f"{fleet}-{number}", count, is_whole=is_whole)
        for number in range(ROUNDS)
    ]
    return [max(rounds, key=lambda figure: figure.value)]


async def _round(target: Target, data: Path, fleet: str, count: int, *, is_whole: bool) -> Figure:
    async with open_fleet(target, fleet) as opened, AsyncExitStack() as stack:
        await Client(opened).submit_many([TaskSpec(handler="noop")] * count)
        raw_s = await _raw_s(target, f"{fleet}-raw", count)
        if is_whole:
            await stack.enter_async_context(role(data, fleet, "coordinator"))
            await stack.enter_async_context(role(data, fleet, "projector"))
            # What they need to start is nobody's work on these tasks.
            await coordinator_ready(opened)
            await projector_ready(opened)
        await stack.enter_async_context(role(data, fleet, *AGENT))
        rate = count / await _lifetime_s(opened, count)
        beside = "projector and coordinator beside" if is_whole else "server and agent alone"
        return Figure(
            what=f"no-op tasks, whole life ({beside}), best of {ROUNDS}",
            durability=opened.durability,
            value=rate,
            unit="tasks/s",
            ratio=rate / (count / raw_s),
            baseline=f"nats-py's pipelined publishes ({count / raw_s:,.0f}/s)",
            bar=BARS[opened.durability, is_whole],
            is_ratio_judged=False,
        )


async def measure_idle(target: Target, data: Path, fleet: str) -> list[Figure]:
    """What an agent with nothing to do uses. Linux only; nothing elsewhere."""
    if sys.platform != "linux":
        return []
    figures: list[Figure] = []
    for workers, most in ((2, 2.0), (10, 3.0)):
        async with (
            open_fleet(target, f"{fleet}-{workers}") as opened,
            role(data, opened.name, "agent", "--workers", str(workers)) as pid,
        ):
            async for _ in opened.log.follow(subjects=f"fleetlog.{opened.name}.agent.*.started"):
                break
            what = f"idle agent of {workers} workers, supervisor"
            figures += await _use(opened, what, pid, most)
    return figures


async def measure_coordinator(target: Target, data: Path, fleet: str) -> list[Figure]:
    """What a coordinator uses beside 20 workers on tasks of a minute. Linux only; nothing elsewhere."""
    if sys.platform != "linux":
        return []
    workers = ("agent", "--app", APP, "--workers", "20")
    async with (
        open_fleet(target, fleet) as opened,
        role(data, fleet, "coordinator") as pid,
        role(data, fleet, *workers),
    ):
        minutes = [TaskSpec(handler="nap", args=msgspec.Raw(b'{"seconds":60}'))] * 20
        handles = await Client(opened).submit_many(minutes)
        while await opened.log.end() < 60:  # noqa: ASYNC110 - workers, offers and claims
            await asyncio.sleep(LOOK_S)
        figures = await _use(opened, "coordinator beside 20 workers on long tasks", pid, 5.0)
        for handle in handles:
            await handle.cancel()
    return figures


async def _use(opened: Fleet, what: str, pid: int, most: float) -> list[Figure]:
    await asyncio.sleep(2.0)
    before = cpu_s(pid)
    await asyncio.sleep(IDLE_S)
    share = (cpu_s(pid) - before) / IDLE_S
    return [
        _use_figure(opened, what, share * 100, "% of a core", most),
        _use_figure(opened, what, peak_mb(pid), "MB", 100.0),
    ]


def _use_figure(opened: Fleet, what: str, value: float, unit: str, most: float) -> Figure:
    return Figure(
        what=what,
        durability=opened.durability,
        value=value,
        unit=unit,
        bar=most,
        is_most=True,
        is_ratio_judged=False,
    )


async def _raw_s(target: Target, fleet: str, count: int) -> float:
    """Seconds that plain nats-py takes to publish as many first events, on a log of their own."""
    async with open_fleet(target, fleet) as opened, raw.raw_client(target) as client:
        ids = [opened.system.new_id() for _ in range(count)]
        return await raw.publish_pipelined(client, fleet, ids, b"x" * 300)


async def _lifetime_s(opened: Fleet, count: int) -> float:
    """From the first claim to the last outcome, once all are there."""
    # Reading along would take of the processor what is measured.
    while await opened.log.end() < 3 * count:  # noqa: ASYNC110 - nobody tells when it is
        await asyncio.sleep(LOOK_S)
    first_ns = last_ns = completed = 0
    async for page in opened.log.follow(subjects=tasks(opened.name)):
        for stored in page:
            if stored.subject.endswith(".claimed"):
                first_ns = first_ns or stored.stored_at_ns
            elif stored.subject.endswith(".completed"):
                completed += 1
                last_ns = stored.stored_at_ns
        if completed == count:
            break
    return (last_ns - first_ns) / 1e9
