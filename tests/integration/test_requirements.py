"""Tasks that require something of their agent go to agents that have it, and to no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.agents.lanes import QueueShare
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.queues import read_queues, set_paused
from fleetlog.bus.reviving import revive
from fleetlog.schemas.events import QueueDerived, TaskClaimed
from fleetlog.schemas.specs import Backoff, TaskSpec

GPU = {"gpu": "yes"}
FAST = Backoff(first_ms=20, max_ms=20)


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def needy(spec: TaskSpec, **requires: str) -> TaskSpec:
    return msgspec.structs.replace(spec, requires=requires or GPU, backoff=FAST)


async def claimers(client: Client, task_id: str) -> list[str]:
    events = (await client.get(task_id)).events
    return [r.event.agent_id for r in events if isinstance(r.event, TaskClaimed)]


async def test_an_agent_that_has_the_labels_takes_what_came_before_it_and_after(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    before = await client.submit(needy(call("noop", n=1)))
    async with agent(server.target, fleet) as without:
        # It serves the queue, and is idle: had it been offered the task, it would have taken it.
        await (await client.submit(call("noop"))).result("20s")
        assert await claimers(client, before.task_id) == []
        async with agent(server.target, fleet, labels=GPU) as having:
            after = await client.submit(needy(call("noop", n=2)))
            results = [(await each.result("20s")).result for each in (before, after)]
            assert results == [1, 2]
            for each in (before, after):
                assert await claimers(client, each.task_id) == [having.agent_id]
            assert without.agent_id != having.agent_id


async def test_a_queue_derived_while_agents_run_is_served_at_once(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet, labels={"gpu": "yes", "disk": "big"}):
        await (await client.submit(call("noop"))).result("20s")
        for requires in (GPU, {"disk": "big"}, {"disk": "big", "gpu": "yes"}):
            task = await client.submit(needy(call("noop", n=7), **requires))
            assert (await task.result("20s")).result == 7
        unmet = await client.submit(needy(call("noop"), gpu="no"))
        # Behind it in the log, and done: the agent has heard of the queue that it does not serve.
        await (await client.submit(needy(call("noop")))).result("20s")
        assert await client.outcome(unmet.task_id) is None
    derived = await history(client.fleet, types=("QueueDerived",))
    assert len(derived) == 4


async def test_what_a_host_offers_by_itself_can_be_required(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet, version="9.9", host="cube") as one:
        task = await client.submit(needy(call("noop"), host="cube", version="9.9"))
        assert (await task.result("20s")).is_completed
        assert one.labels["os"]
        own = needy(msgspec.structs.replace(call("noop"), queue="host-cube"), version="9.9")
        assert (await (await client.submit(own)).result("20s")).is_completed


async def test_every_way_into_a_queue_keeps_to_the_requirements(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        coordinator(server.target, fleet),
        agent(server.target, fleet),
        agent(server.target, fleet, labels=GPU) as having,
    ):
        retried = await client.submit(needy(call("fail_until", attempt=3)))
        delayed = await client.submit(needy(call("noop")), delay="50ms")
        after = await client.submit(needy(call("noop")), after=(delayed.task_id,))
        fanned = await client.fan_out(
            FanOut([needy(call("noop", n=n)) for n in range(4)], then=needy(call("noop", n=9)))
        )
        dead = await client.submit(needy(call("fail_for_good")))
        assert (await dead.result("20s")).state == "failed"
        revived = await revive(client.fleet, dead.task_id)
        assert (await client.result(revived.task_id, "20s")).state == "failed"
        assert (await fanned.result("20s")).result == 9
        assert (await retried.result("20s")).attempts == 3
        assert (await after.result("20s")).is_completed
        ids = [retried.task_id, delayed.task_id, after.task_id, revived.task_id, *fanned.task_ids]
        for task_id in (*ids, fanned.continuation_id or ""):
            assert set(await claimers(client, task_id)) == {having.agent_id}


async def test_what_is_paused_is_paused_for_those_that_require_something_too(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    def pausing(queue: str, *, is_paused: bool) -> object:
        return set_paused(client.fleet, queue, is_paused=is_paused, actor=None, reason=None)

    async with agent(server.target, fleet, labels=GPU, queues=("default", "other")):
        await (await client.submit(needy(call("noop")))).result("20s")
        await pausing("default", is_paused=True)  # type: ignore[misc] # a coroutine
        late = await client.submit(needy(call("noop", n=5)))
        await (await client.submit(call("noop"), queue="other")).result("20s")
        assert await client.outcome(late.task_id) is None
        await pausing("default", is_paused=False)  # type: ignore[misc] # a coroutine
        assert (await late.result("20s")).result == 5


async def test_a_queues_limit_holds_for_all_of_it(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    shares = {"default": QueueShare(running_max=1)}
    async with agent(server.target, fleet, workers=3, labels=GPU, shares=shares):
        specs = [call("noop"), needy(call("noop")), needy(call("noop"), gpu="yes")] * 4
        for each in await client.submit_many(specs):
            await each.result("20s")
    running = peak = 0
    for record in await history(client.fleet, types=("TaskClaimed", "TaskCompleted")):
        running += 1 if isinstance(record.event, TaskClaimed) else -1
        peak = max(peak, running)
    assert peak == 1


async def test_many_who_submit_at_once_derive_one_queue(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with open_fleet(server.target, fleet) as opened:
        other = Client(opened)
        specs = [needy(call("noop", n=n)) for n in range(20)]
        await client.submit_many(specs)
        await other.submit_many(specs)
    derived = await wait_for(client.fleet, "QueueDerived")
    assert len(derived) == 1
    [state] = (await read_queues(client.fleet.log)).states.values()
    assert (state.base, state.requires) == ("default", GPU)
    first, second = (await history(client.fleet))[:2]
    assert isinstance(first.event, QueueDerived)
    assert second.subject is not None
    assert second.subject.queue == state.queue


async def test_a_queue_that_was_paused_by_its_name_before_is_derived_all_the_same(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    name = needy(call("noop")).offered_on
    await set_paused(client.fleet, name, is_paused=True, actor="ann", reason="early")
    await client.submit(needy(call("noop")))
    state = (await read_queues(client.fleet.log)).states[name]
    assert (state.base, state.is_paused) == ("default", True)
