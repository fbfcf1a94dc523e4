"""How fast tasks live their whole life: claimed, run in a worker, recorded, acknowledged."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from fleetlog.bus import raw
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.roles import cpu_s, peak_mb, role
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
IDLE_S = 10.0
LOOK_S = 0.05


async def measure_tasks(
    target: Target, data: Path, fleet: str, count: int, *, is_whole: bool
) -> Figure:
    """No-op async tasks through one agent with 2 workers, 256 at once in each; all wait before it starts.

    The figure comes from the log alone: from the first claim to the last outcome, by the server's time.

    Args:
        target: the server.
        data: its folder, by which roles find it.
        fleet: an unused name.
        count: how many tasks.
        is_whole: projector and coordinator run beside them.
    """
    async with open_fleet(target, fleet) as opened, AsyncExitStack() as stack:
        await Client(opened).submit_many([TaskSpec(handler="noop")] * count)
        raw_s = await _raw_s(target, f"{fleet}-raw", count)
        if is_whole:
            await stack.enter_async_context(role(data, fleet, "coordinator"))
            await stack.enter_async_context(role(data, fleet, "projector"))
        await stack.enter_async_context(role(data, fleet, *AGENT))
        rate = count / await _lifetime_s(opened, count)
        beside = "projector and coordinator beside" if is_whole else "server and agent alone"
        return Figure(
            what=f"no-op tasks, whole life ({beside})",
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
    async with (
        open_fleet(target, fleet) as opened,
        role(data, fleet, "agent", "--workers", "2") as pid,
    ):
        async for _ in opened.log.follow(subjects=f"fleetlog.{fleet}.agent.*.started"):
            break
        await asyncio.sleep(2.0)
        before = cpu_s(pid)
        await asyncio.sleep(IDLE_S)
        share = (cpu_s(pid) - before) / IDLE_S
        memory = peak_mb(pid)
    return [
        _idle_figure(opened, share * 100, "% of a core", 2.0),
        _idle_figure(opened, memory, "MB", 100.0),
    ]


def _idle_figure(opened: Fleet, value: float, unit: str, most: float) -> Figure:
    return Figure(
        what="idle agent, supervisor",
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
