"""Elastic pools, limits and weights: real agents with real workers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable

import msgspec
import pytest
from support.fleets import agent, history, wait_for

from fleetlog.agents.lanes import QueueShare
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import QueueScaled, TaskClaimed, TaskCompleted, TaskQueued
from fleetlog.schemas.specs import TaskSpec


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def naps(count: int, seconds: float, queue: str = "default") -> list[TaskSpec]:
    return [msgspec.structs.replace(call("nap", seconds=seconds), queue=queue)] * count


async def finish(client: Client, specs: Iterable[TaskSpec]) -> None:
    handles = await client.submit_many(list(specs))
    outcomes = await asyncio.gather(*(handle.result("60s") for handle in handles))
    assert {outcome.state for outcome in outcomes} == {"completed"}


def queues_of(records: Iterable[Recorded]) -> dict[str, str]:
    """Of each task."""
    return {
        record.subject.id: record.subject.queue or ""
        for record in records
        if record.subject is not None and isinstance(record.event, TaskQueued)
    }


async def test_a_pool_grows_for_what_waits_and_shrinks_when_nothing_does(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet, workers=1, workers_max=10, idle_s=1.0) as supervisor:
        await finish(client, naps(20, 1.0))
        scaled = await wait_for(client.fleet, "QueueScaled", 10)
        while scaled[-1].event.workers_after > 1:  # type: ignore[union-attr]
            scaled = await wait_for(client.fleet, "QueueScaled", len(scaled) + 1)
        exited = await wait_for(client.fleet, "WorkerExited", 9)
    records = await history(client.fleet)
    changes = [r.event for r in scaled if isinstance(r.event, QueueScaled)]
    grown = [c for c in changes if c.workers_after > c.workers_before]
    assert max(c.workers_after for c in changes) == 10
    assert all(a.workers_after == b.workers_before for a, b in itertools.pairwise(changes))
    assert changes[0].workers_before == 1
    assert {(c.agent_id, c.host) for c in changes} == {(supervisor.agent_id, supervisor.host)}
    assert all(c.waiting > 0 and c.oldest_wait_ms >= 500 for c in grown)
    assert (grown[0].reason or "").startswith("all 1 workers were busy while 1")
    assert all((c.reason or "").startswith("worker w") for c in changes if c not in grown)
    claims = [r.event.worker_id for r in records if isinstance(r.event, TaskClaimed)]
    assert len(claims) == 20
    assert len(set(claims)) >= 8
    assert {r.event.reason for r in exited} == {"there was nothing for it to do"}  # type: ignore[union-attr]


async def test_a_pool_with_one_number_stays_as_it_is(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet, workers=1, idle_s=0.1):
        await finish(client, naps(4, 0.5))
    names = Counter(type(record.event).__name__ for record in await history(client.fleet))
    assert names["QueueScaled"] == 0
    assert names["WorkerSpawned"] == 1


async def test_a_queue_has_never_more_than_its_limit_while_others_go_on(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    limit = {"gpu": QueueShare(running_max=2)}
    queues = ("gpu", "default")
    async with agent(server.target, fleet, workers=4, queues=queues, shares=limit):
        await finish(client, [*naps(8, 0.25, "gpu"), *naps(8, 0.1)])
        # A queue that was at its limit and then empty is served again.
        await finish(client, naps(3, 0.05, "gpu"))
    records = await history(client.fleet)
    of_task, running, most, beside = queues_of(records), Counter[str](), Counter[str](), 0
    for record in records:
        queue = of_task[record.subject.id] if record.subject and record.subject.queue else ""
        if isinstance(record.event, TaskClaimed):
            running[queue] += 1
            most[queue] = max(most[queue], running[queue])
            beside += running["gpu"] == 2 and queue == "default"
        elif isinstance(record.event, TaskCompleted):
            running[queue] -= 1
    assert most["gpu"] == 2
    assert most["default"] >= 2
    assert beside > 0


async def test_queues_that_wait_share_starts_by_their_weights(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await client.submit_many([*naps(60, 0.02, "big"), *naps(60, 0.02, "small")])
    shares = {"big": QueueShare(weight=3)}
    queues = ("small", "big")
    async with agent(server.target, fleet, workers=2, queues=queues, shares=shares):
        await wait_for(client.fleet, "TaskClaimed", 60)
    records = await history(client.fleet)
    of_task = queues_of(records)
    claims = [
        of_task[record.subject.id]
        for record in records
        if record.subject is not None and isinstance(record.event, TaskClaimed)
    ]
    counts = Counter(claims[:60])
    assert counts["big"] == pytest.approx(45, abs=3)
    assert counts["small"] == pytest.approx(15, abs=3)
