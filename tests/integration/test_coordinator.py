"""What time brings, and two coordinators at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.coordinator_state import ask_coordinator
from fleetlog.bus.core.office import SILENT_MAX_S
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.log import entry
from fleetlog.bus.snapshots import Snapshots
from fleetlog.schemas.events import TaskReturned
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


async def test_two_coordinators_at_once_queue_each_delayed_task_once(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        coordinator(server.target, fleet, has_rivals=False),
        coordinator(server.target, fleet, has_rivals=False),
    ):
        specs = [TaskSpec(handler="h", delay_ms=100 + n) for n in range(300)]
        await client.submit_many(specs)
        await wait_for(client.fleet, "TaskQueued", 300)
    queued = [r.subject.id for r in await history(client.fleet, types=("TaskQueued",)) if r.subject]
    assert set(Counter(queued).values()) == {1}


async def test_a_coordinator_that_starts_late_does_what_was_due(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    delayed = await client.submit(call("noop"), delay="1ms")
    late = await client.submit(TaskSpec(handler="h"), expires="1ms")
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        assert (await delayed.result("20s")).state == "completed"
        assert (await late.result("20s")).state == "expired"


async def test_an_event_that_is_not_allowed_changes_nothing_and_is_counted(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    task = await client.submit(TaskSpec(handler="h"))
    event = TaskReturned(
        id="rogue",
        occurred_at=client.fleet.log.now(),
        attempts=1,
        fence=1,
        error_class="x",
        error="x",
    )
    subject = Subject(fleet, "task", task.task_id, "returned", "default", "normal")
    await client.fleet.log.append(entry(subject, task.seq, event))
    async with coordinator(server.target, fleet) as one:
        assert one.violation_count == 1
    assert (await client.get(task.task_id)).task.status == "queued"


async def test_a_coordinator_begins_with_the_snapshot_of_the_one_before(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    waiting = [await client.submit(TaskSpec(handler="h", delay_ms=600_000)) for _ in range(3)]
    soon = await client.submit(call("noop"), delay="3s")
    async with coordinator(server.target, fleet):
        pass
    after = await client.submit(TaskSpec(handler="h", delay_ms=600_000))
    restored = await Snapshots(client.fleet.objects, client.fleet.log).load()
    assert restored is not None
    assert set(restored.tasks) == {task.task_id for task in (*waiting, soon)}
    async with coordinator(server.target, fleet) as one, agent(server.target, fleet):
        assert one._saved_seq == restored.seq
        assert (await soon.result("20s")).state == "completed"
        assert set(one._unsettled.tasks) == {task.task_id for task in (*waiting, after)}


async def test_a_standby_takes_over_at_once_when_the_active_one_stops(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with AsyncExitStack() as stack:
        active = await stack.enter_async_context(coordinator(server.target, fleet))
        async with asyncio.timeout(10):
            while await client.fleet.beats.last_of_coordinator() is None:
                pass  # it has just begun to beat
        async with coordinator(server.target, fleet) as standby:
            await client.submit(call("noop"), delay="1ms")
            await wait_for(client.fleet, "TaskQueued")
            assert not standby.lookout.active.is_set()
            state = await ask_coordinator(client.fleet.services, 5.0)
            assert state.active_id == active.lookout.coordinator_id
            await stack.aclose()
            async with asyncio.timeout(SILENT_MAX_S - 1):
                await standby.lookout.active.wait()
            await client.submit(call("noop"), delay="1ms")
            await wait_for(client.fleet, "TaskQueued", 2)
