"""Slots that an agent keeps for high tasks: real workers on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.events import AgentStarted, QueueScaled, TaskClaimed
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Priority


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def of(priority: Priority, spec: TaskSpec) -> TaskSpec:
    return msgspec.structs.replace(spec, priority=priority)


async def workers_of(client: Client, priority: Priority) -> list[str]:
    """Which worker each claim of a task of this priority was for."""
    claims = await history(client.fleet, types=("TaskClaimed",))
    return [
        record.event.worker_id
        for record in claims
        if isinstance(record.event, TaskClaimed)
        and record.subject is not None
        and record.subject.priority == priority
    ]


async def test_high_starts_at_once_while_long_low_tasks_have_all_other_slots(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet, workers=3, reserve_high=1, drain_s=0.1) as one:
        long = await client.submit_many([of("low", call("nap", seconds=60))] * 4)
        await wait_for(client.fleet, "TaskClaimed", 2)
        for number in range(5):
            task = await client.submit(of("high", call("noop", n=number)))
            assert (await task.result("20s")).result == number
            # The slot is free again, and for a while: a low one that waits does not get it.
            own = await client.submit(of("high", call("noop")), queue=f"host-{one.host}")
            assert (await own.result("20s")).is_completed
        low, high = await workers_of(client, "low"), await workers_of(client, "high")
        assert len(low) == 2
        assert len(high) == 10
        assert set(high).isdisjoint(low)
        for handle in reversed(long):
            await handle.cancel()
    [started] = await history(client.fleet, types=("AgentStarted",))
    assert isinstance(started.event, AgentStarted)
    assert started.event.reserve_high == 1


async def test_a_pool_grows_for_high_and_beside_its_reserve(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    """It begins with fewer workers than it reserves slots."""
    pool = {"workers": 1, "workers_max": 4, "reserve_high": 2}
    async with agent(server.target, fleet, drain_s=0.1, **pool):
        low = await client.submit_many([of("low", call("nap", seconds=60))] * 4)
        await wait_for(client.fleet, "TaskClaimed", 2)
        high = await client.submit_many([of("high", call("nap", seconds=1))] * 4)
        for handle in high:
            assert (await handle.result("30s")).is_completed
        of_low, of_high = await workers_of(client, "low"), await workers_of(client, "high")
        assert len(of_low) == 2
        assert len(set(of_high)) == 2
        assert set(of_high).isdisjoint(of_low)
        for handle in reversed(low):
            await handle.cancel()
    scaled = await history(client.fleet, types=("QueueScaled",))
    changes = [r.event for r in scaled if isinstance(r.event, QueueScaled)]
    assert max(change.workers_after for change in changes) == 4
    assert "kept for high while" in (changes[0].reason or "")


async def test_what_gathers_comes_to_its_end_beside_a_reserve(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    """All of it goes through the one slot that is for any, lent by each that waits."""
    async with (
        coordinator(server.target, fleet),
        agent(server.target, fleet, workers=2, reserve_high=1, drain_s=0.1),
    ):
        summed = [await client.submit(of("low", call("sum_up", depth=3))) for _ in range(2)]
        for number in range(10):
            task = await client.submit(of("high", call("noop", n=number)))
            assert (await task.result("20s")).result == number
        for each in summed:
            assert (await each.result("60s")).result == 8
        long = await client.submit_many([call("nap", seconds=60)] * 2)
        await wait_for(client.fleet, "TaskClaimed", task_id=long[0].task_id)
        high = await client.submit(of("high", call("sum_up", depth=0)))
        assert (await high.result("20s")).result == 1
        naps = {handle.task_id for handle in long}
        claims = await history(client.fleet, types=("TaskClaimed",))
        assert sum(r.subject is not None and r.subject.id in naps for r in claims) == 1
        for handle in reversed(long):
            await handle.cancel()
