"""Tasks with one affinity key run on one host, while it can take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for
from support.mock_clis import agent_environment, claude

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.queues import set_paused
from fleetlog.schemas.events import TaskClaimed, TaskQueued
from fleetlog.schemas.specs import TaskSpec


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def keyed(spec: TaskSpec, key: str = "shop", wait_ms: int = 30_000) -> TaskSpec:
    return msgspec.structs.replace(spec, affinity=key, affinity_ms=wait_ms)


async def hosts(client: Client, task_id: str) -> list[str]:
    events = (await client.get(task_id)).events
    return [r.event.host for r in events if isinstance(r.event, TaskClaimed)]


async def offers(client: Client, task_id: str) -> list[str | None]:
    events = (await client.get(task_id)).events
    return [r.event.host for r in events if isinstance(r.event, TaskQueued)]


async def test_what_has_one_key_runs_where_the_first_ran(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        coordinator(server.target, fleet),
        agent(server.target, fleet, host="h1", workers=2),
        agent(server.target, fleet, host="h2", workers=2),
    ):
        first = await client.submit(keyed(call("noop")))
        await first.result("20s")
        [home] = await hosts(client, first.task_id)
        tasks = await client.submit_many([keyed(call("noop", n=n)) for n in range(20)])
        assert [(await each.result("20s")).result for each in tasks] == list(range(20))
        for each in tasks:
            assert await hosts(client, each.task_id) == [home]
            assert await offers(client, each.task_id) == [home]
        joined = await client.fan_out(
            FanOut([keyed(call("noop", n=n)) for n in range(3)], then=keyed(call("noop", n=7)))
        )
        assert (await joined.result("20s")).result == 7
        for task_id in (*joined.task_ids, joined.continuation_id or ""):
            assert await hosts(client, task_id) == [home]


async def test_a_busy_host_is_waited_for_only_so_long(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        coordinator(server.target, fleet),
        agent(server.target, fleet, host="h1", drain_s=0.1) as one,
    ):
        first = await client.submit(keyed(call("noop")))
        await first.result("20s")
        long = await client.submit(call("nap", seconds=60))
        await wait_for(client.fleet, "TaskClaimed", task_id=long.task_id)
        async with agent(server.target, fleet, host="h2"):
            moved = await client.submit(keyed(call("noop", n=5), wait_ms=300))
            assert (await moved.result("20s")).result == 5
            assert await offers(client, moved.task_id) == ["h1", None]
            assert await hosts(client, moved.task_id) == ["h2"]
            # And from now on it is at home there.
            next_one = await client.submit(keyed(call("noop", n=6)))
            await next_one.result("20s")
            assert await offers(client, next_one.task_id) == ["h2"]
        await long.cancel()
        # The host gets its old offer at last, and drops it.
        after = await client.submit(call("noop"))
        await after.result("20s")
    claims = await history(client.fleet, types=("TaskClaimed",))
    assert sum(r.subject is not None and r.subject.id == moved.task_id for r in claims) == 1
    assert one.host == "h1"


async def test_a_host_without_agents_is_not_waited_for(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, host="h2"):
        async with agent(server.target, fleet, host="h1", queues=("other",)):
            spec = msgspec.structs.replace(keyed(call("noop")), queue="other")
            await (await client.submit(spec)).result("20s")
        task = await client.submit(keyed(call("noop", n=4)))
        assert (await task.result("20s")).result == 4
        assert await offers(client, task.task_id) == [None]


async def test_a_paused_queue_keeps_them_too(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, host="h1"):
        await (await client.submit(keyed(call("noop")))).result("20s")
        await set_paused(client.fleet, "default", is_paused=True, actor=None, reason=None)
        task = await client.submit(keyed(call("noop")))
        await wait_for(client.fleet, "TaskQueued", task_id=task.task_id)
        # On its own queue, which is not paused, the agent does the next thing.
        own = await client.submit(call("noop"), queue="host-h1")
        await own.result("20s")
        assert await client.outcome(task.task_id) is None
        await set_paused(client.fleet, "default", is_paused=False, actor=None, reason=None)
        assert (await task.result("20s")).is_completed


async def test_an_answer_goes_to_the_host_that_asked(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        coordinator(server.target, fleet),
        agent(server.target, fleet, host="h1"),
        agent(server.target, fleet, host="h2"),
    ):
        for _ in range(4):
            task = await client.submit(keyed(call("ask", choices=[])))
            await wait_for(client.fleet, "TaskReturned", task_id=task.task_id)
            await client.answer(task.task_id, "yes")
            await task.result("20s")
            first, second = await hosts(client, task.task_id)
            assert first == second == (await offers(client, task.task_id))[-1]


async def test_a_snapshot_keeps_where_keys_are_at_home(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        agent(server.target, fleet, host="h1"),
        agent(server.target, fleet, host="h2"),
    ):
        async with coordinator(server.target, fleet) as one:
            first = await client.submit(keyed(call("noop")))
            await first.result("20s")
            async with asyncio.timeout(20):
                await one.lookout.active.wait()
        async with coordinator(server.target, fleet) as two:
            assert two._saved_seq > 0  # it has begun with the snapshot of the one before
            again = await client.submit(keyed(call("noop")))
            await again.result("20s")
    assert await hosts(client, again.task_id) == await hosts(client, first.task_id)


async def test_a_session_of_an_agent_cli_goes_on_in_the_next_task(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    environ = agent_environment(tmp_path)
    sessions = []
    async with (
        coordinator(server.target, fleet),
        agent(server.target, fleet, app=None, environ=environ),
    ):
        for keeps in (True, True, False):
            task = await client.submit(keyed(claude("hello", keep_session=keeps)))
            outcome = await task.result("40s")
            # The prompt is its own: the session is another task's.
            assert outcome.result == "answer to 5 characters"
            [end] = [r.event for r in (await client.get(task.task_id)).events][-1:]
            sessions.append(end.session_id)  # type: ignore[union-attr] # it has completed
    assert sessions[0] == sessions[1] != sessions[2]
