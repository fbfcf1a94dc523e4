"""Agents that are held for lost: what they held goes on elsewhere, and they start anew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fleet_process import process_of
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.log import entry
from fleetlog.schemas.beats import Beat, WorkerBeat
from fleetlog.schemas.events import (
    AgentLost,
    AgentStarted,
    TaskClaimed,
    TaskReturned,
    Usage,
    WorkerRefused,
)
from fleetlog.schemas.subjects import Subject, guard


@pytest.fixture
async def opened(server: EmbeddedServer, fleet: str) -> AsyncIterator[Fleet]:
    async with open_fleet(server.target, fleet) as opened:
        yield opened


async def hold_for_lost(fleet: Fleet, agent_id: str) -> None:
    """What a coordinator does that hears nothing."""
    last = await fleet.log.last(guard(fleet.name, "agent", agent_id))
    assert last is not None
    event = AgentLost(id=f"{agent_id}-lost", occurred_at=fleet.log.now(), silent_ms=3_100)
    seq = await fleet.log.append(
        entry(Subject(fleet.name, "agent", agent_id, "lost"), last.seq, event)
    )
    fleet.hints.publish(agent_id, seq, to=agent_id)


async def test_a_killed_agents_tasks_run_elsewhere_and_its_offers_are_not_delivered_again(
    server: EmbeddedServer, fleet: str, opened: Fleet, tmp_path: Path
) -> None:
    client = Client(opened)
    async with coordinator(server.target, fleet):
        async with process_of("agent", server.target, fleet, workers=2) as doomed:
            tasks = await client.submit_many(
                [call("mark", folder=str(tmp_path), seconds=2.0 * (n + 1)) for n in range(2)]
            )
            await wait_for(opened, "TaskClaimed", 2)
            await doomed.kill()
            async with agent(server.target, fleet, workers=2) as heir:
                outcomes = [await task.result("30s") for task in tasks]
        subject = f"$JS.API.CONSUMER.INFO.FLEETLOG_{fleet}.offers_default_normal"
        async with asyncio.timeout(10):
            while b'"num_ack_pending":0' not in await opened.link.request(subject):
                pass  # an ack is not answered
    log = await history(opened)
    assert [(o.state, o.attempts) for o in outcomes] == [("completed", 2)] * 2
    (lost,) = [r for r in log if isinstance(r.event, AgentLost)]
    assert lost.subject is not None
    returned = [r.event for r in log if isinstance(r.event, TaskReturned)]
    assert [(e.error_class, e.cause) for e in returned] == [("lost", f"{lost.subject.id}-lost")] * 2
    heirs = [r.event for r in log if isinstance(r.event, TaskClaimed)][2:]
    assert {claim.agent_id for claim in heirs} == {heir.agent_id}
    assert all(claim.over is None for claim in heirs)


async def test_an_agent_that_finds_itself_lost_ends_what_runs_and_starts_anew(
    server: EmbeddedServer, fleet: str, opened: Fleet, tmp_path: Path
) -> None:
    client = Client(opened)
    async with coordinator(server.target, fleet), agent(server.target, fleet) as one:
        old_id = one.agent_id
        task = await client.submit(call("mark", folder=str(tmp_path), seconds=5.0))
        await wait_for(opened, "TaskClaimed")
        await hold_for_lost(opened, old_id)
        assert (await task.result("40s")).attempts == 2
        assert one.agent_id != old_id
        assert one.ready.is_set()
    log = await history(opened)
    started = [r.subject.id for r in log if isinstance(r.event, AgentStarted) and r.subject]
    assert started == [old_id, one.agent_id]
    claims = [r.event.agent_id for r in log if isinstance(r.event, TaskClaimed)]
    assert claims == started
    (returned,) = [r for r in log if isinstance(r.event, TaskReturned)]
    again = next(r for r in log if isinstance(r.event, AgentStarted) and r.seq > returned.seq)
    exited = [r.seq for r in log if type(r.event).__name__ == "WorkerExited"]
    assert returned.seq < exited[0] < again.seq, "the old workers ended before the new ones came"
    assert len(await asyncio.to_thread(os.listdir, tmp_path)) == 2


async def test_the_result_of_a_paused_agent_is_refused_and_recorded(
    server: EmbeddedServer, fleet: str, opened: Fleet, tmp_path: Path
) -> None:
    """It is stopped for longer than three beats, and comes back to find its task in other hands."""
    client = Client(opened)
    async with (
        coordinator(server.target, fleet),
        process_of("agent", server.target, fleet) as paused,
    ):
        task = await client.submit(call("wait_for_file", path=str(tmp_path / "go")))
        (claim,) = await wait_for(opened, "TaskClaimed")
        assert isinstance(claim.event, TaskClaimed)
        paused.pause()
        await wait_for(opened, "AgentLost")
        async with agent(server.target, fleet):
            await wait_for(opened, "TaskClaimed", 2)
            paused.go_on()
            (refused,) = await wait_for(opened, "WorkerRefused")
            await wait_for(opened, "AgentStarted", 3)
            (tmp_path / "go").touch()
            outcome = await task.result("20s")
    assert isinstance(refused.event, WorkerRefused)
    assert refused.subject is not None
    assert refused.subject.id == claim.event.agent_id
    assert (refused.event.task_id, refused.event.fence) == (task.task_id, claim.seq)
    assert (outcome.state, outcome.attempts) == ("completed", 2)


async def test_what_a_dead_coordinator_owed_is_done_by_the_next_one(
    server: EmbeddedServer, fleet: str, opened: Fleet
) -> None:
    """The first one died between recording the loss and returning the claims."""
    client = Client(opened)
    async with process_of("agent", server.target, fleet) as doomed:
        task = await client.submit(call("nap", seconds=1.0))
        (claim,) = await wait_for(opened, "TaskClaimed")
        assert isinstance(claim.event, TaskClaimed)
        await doomed.kill()
    await hold_for_lost(opened, claim.event.agent_id)
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        assert (await task.result("20s")).attempts == 2


async def test_what_a_lost_attempt_had_used_is_taken_from_its_agents_last_beat(
    server: EmbeddedServer, fleet: str, opened: Fleet
) -> None:
    client = Client(opened)
    usage = Usage(input_tokens=10, cost_micro_usd=2_500_000)
    async with process_of("agent", server.target, fleet) as doomed:
        task = await client.submit(call("nap", seconds=600))
        await wait_for(opened, "TaskClaimed")
        await doomed.kill()
    last = WorkerBeat(worker_id="w1", state="busy", task_id=task.task_id, attempt=1, usage=usage)
    other = WorkerBeat(worker_id="w2", state="busy", task_id=task.task_id, attempt=7)
    opened.beats.publish(
        Beat(
            agent_id=doomed.role_id,
            host="h",
            occurred_at=opened.log.now(),
            workers=(other, last),
        )
    )
    await hold_for_lost(opened, doomed.role_id)
    async with coordinator(server.target, fleet):
        (returned,) = await wait_for(opened, "TaskReturned")
    assert isinstance(returned.event, TaskReturned)
    assert returned.event.usage == usage


async def test_a_task_that_goes_down_with_three_agents_has_failed(
    server: EmbeddedServer, fleet: str, opened: Fleet
) -> None:
    client = Client(opened)
    async with coordinator(server.target, fleet):
        task = await client.submit(call("nap", seconds=600))
        for number in range(3):
            async with process_of("agent", server.target, fleet) as doomed:
                claims = await wait_for(opened, "TaskClaimed", number + 1)
                await doomed.kill()
            assert isinstance(claims[-1].event, TaskClaimed)
            await hold_for_lost(opened, claims[-1].event.agent_id)
        outcome = await task.result("20s")
    assert (outcome.state, outcome.attempts, outcome.error_class) == ("failed", 3, "lost")


async def test_an_agent_that_stops_slowly_is_not_lost(
    server: EmbeddedServer, fleet: str, opened: Fleet
) -> None:
    """It beats until its end is recorded, however long its workers take."""
    async with coordinator(server.target, fleet), agent(server.target, fleet, drain_s=8.0):
        await Client(opened).submit(call("nap", seconds=7.0))
        await wait_for(opened, "TaskClaimed")
    assert [r for r in await history(opened) if isinstance(r.event, AgentLost)] == []
