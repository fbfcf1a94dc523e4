"""Agents and coordinators that are killed or paused, and servers that go away, while work runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.clusters import running_cluster
from support.fleet_process import FleetProcess, process_of
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.core.watch import GRACE_S
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.schemas.beats import Beat, CoordinatorBeat
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import AgentLost, TaskClaimed, TaskQueued, TerminalEvent
from fleetlog.schemas.specs import TaskSpec

IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
KILLS = 20 if IS_LONG else 3
AWAY_S = 45.0 if IS_LONG else 20.0
PAUSE_S = 8.0
NOTICED_MAX_S = 5.0
ELSEWHERE_MAX_S = 10.0


@pytest.fixture
async def opened(server: EmbeddedServer, fleet: str) -> AsyncIterator[Fleet]:
    async with open_fleet(server.target, fleet) as opened:
        yield opened


async def hear_coordinator(fleet: Fleet, seconds: float, *, but: str = "") -> str:
    """Waits until one coordinator other than `but` has been active for so long; answers its id."""
    heard: asyncio.Queue[CoordinatorBeat] = asyncio.Queue()

    def on_beat(beat: Beat | CoordinatorBeat) -> None:
        if isinstance(beat, CoordinatorBeat) and beat.is_active and beat.coordinator_id != but:
            heard.put_nowait(beat)

    async with asyncio.timeout(60), fleet.beats.listen(on_beat):
        first = await heard.get()
        while True:
            beat = await heard.get()
            if beat.coordinator_id != first.coordinator_id:
                first = beat
            if (beat.occurred_at - first.occurred_at).total_seconds() >= seconds:
                return beat.coordinator_id


def claims_of(log: list[Recorded]) -> list[tuple[Recorded, TaskClaimed]]:
    return [(r, r.event) for r in log if isinstance(r.event, TaskClaimed)]


def lost_in(log: list[Recorded]) -> list[Recorded]:
    return [r for r in log if isinstance(r.event, AgentLost)]


async def test_a_killed_agent_is_noticed_and_its_tasks_run_elsewhere_in_time(
    server: EmbeddedServer, fleet: str, opened: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(opened)
    noticed: list[float] = []
    elsewhere: list[float] = []
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(process_of("coordinator", server.target, fleet))
        agents: dict[str, FleetProcess] = {}

        async def start() -> None:
            one = await stack.enter_async_context(
                process_of("agent", server.target, fleet, workers=4)
            )
            agents[one.role_id] = one

        await start()
        await start()
        await hear_coordinator(opened, GRACE_S + 1)
        for round_number in range(1, KILLS + 1):
            tasks = await client.submit_many([call("nap", seconds=2.0)] * 4)
            ids = {task.task_id for task in tasks}
            while len(mine := claims_in(await history(opened), ids)) < 4:
                await wait_for(opened, "TaskClaimed", task_id=(ids - mine.keys()).pop())
            victim = mine[tasks[0].task_id].agent_id
            held = {task_id for task_id, claim in mine.items() if claim.agent_id == victim}
            killed_at = opened.log.now()
            await agents.pop(victim).kill()
            lost = (await wait_for(opened, "AgentLost", round_number))[-1]
            noticed.append((lost.stored_at - killed_at).total_seconds())
            for task in tasks:
                assert (await task.result("30s")).state == "completed"
            again = [
                r.stored_at
                for r, claim in claims_of(await history(opened))
                if r.subject is not None and r.subject.id in held and claim.attempt == 2
            ]
            assert len(again) == len(held)
            elsewhere.append((max(again) - killed_at).total_seconds())
            await start()
        log = await history(opened)
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: noticed after {max(noticed):.2f} s at worst,"
            f" running elsewhere after {max(elsewhere):.2f} s at worst"
        )
    assert max(noticed) <= NOTICED_MAX_S
    assert max(elsewhere) <= ELSEWHERE_MAX_S
    assert len(lost_in(log)) == KILLS, "and nobody who lives"


def claims_in(log: list[Recorded], ids: set[str]) -> dict[str, TaskClaimed]:
    return {r.subject.id: c for r, c in claims_of(log) if r.subject and r.subject.id in ids}


async def test_an_agent_that_was_paused_comes_back_under_a_new_id(
    server: EmbeddedServer, fleet: str, opened: Fleet, tmp_path: Path
) -> None:
    client = Client(opened)
    async with (
        coordinator(server.target, fleet),
        process_of("agent", server.target, fleet, workers=2) as paused,
    ):
        await hear_coordinator(opened, GRACE_S + 1)
        # Its workers are processes of their own and go on: only their results are refused.
        tasks = await client.submit_many([call("mark", folder=str(tmp_path), seconds=20.0)] * 2)
        await wait_for(opened, "TaskClaimed", 2)
        paused.pause()
        async with agent(server.target, fleet, workers=2) as heir:
            await asyncio.sleep(PAUSE_S)  # the pause is what is tested
            paused.go_on()
            (old, _, new) = await wait_for(opened, "AgentStarted", 3)
            await wait_for(opened, "WorkerRefused", 2)
            outcomes = [await task.result("60s") for task in tasks]
        assert old.subject is not None
        assert new.subject is not None
        assert old.subject.id == paused.role_id
        again = await client.submit(call("noop"))
        assert (await again.result("20s")).state == "completed"
        log = await history(opened)
    assert [(o.state, o.attempts) for o in outcomes] == [("completed", 2)] * 2
    agents = [claim.agent_id for _, claim in claims_of(log)]
    assert agents == [paused.role_id] * 2 + [heir.agent_id] * 2 + [new.subject.id]
    ends = Counter(r.subject.id for r in log if r.subject and isinstance(r.event, TerminalEvent))
    assert set(ends.values()) == {1}


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_a_standby_takes_over_from_a_coordinator_that_is(
    how: str, server: EmbeddedServer, fleet: str, opened: Fleet
) -> None:
    client = Client(opened)
    async with (
        process_of("coordinator", server.target, fleet) as one,
        process_of("coordinator", server.target, fleet) as other,
        process_of("agent", server.target, fleet) as doomed,
        agent(server.target, fleet),
    ):
        active_id = await hear_coordinator(opened, 1.0)
        active = one if one.role_id == active_id else other
        delayed = await client.submit_many([TaskSpec(handler="noop", delay_ms=3_000)] * 200)
        if how == "killed":
            await active.kill()
        else:
            active.pause()
        await doomed.kill()
        began_at = opened.log.now()
        assert await hear_coordinator(opened, 1.0, but=active_id) != active_id
        (lost,) = await wait_for(opened, "AgentLost")
        took_s = (lost.stored_at - began_at).total_seconds()
        if how == "paused":
            active.go_on()
        outcomes = [await task.result("30s") for task in delayed]
        if how == "paused":
            # The one that was away finds that another one has taken over, and leaves it to that one.
            assert await hear_coordinator(opened, 3.0) != active_id
        log = await history(opened)
    assert {o.state for o in outcomes} == {"completed"}
    queued = Counter(
        r.subject.id
        for r in log
        if r.subject is not None and isinstance(r.event, TaskQueued) and r.event.attempt == 1
    )
    assert set(queued.values()) == {1}
    assert [r.subject.id for r in lost_in(log) if r.subject] == [doomed.role_id]
    assert took_s < 3.0 + GRACE_S + 5.0


async def test_two_coordinators_that_act_at_once_lose_an_agent_once(
    server: EmbeddedServer, fleet: str, opened: Fleet
) -> None:
    client = Client(opened)
    async with (
        coordinator(server.target, fleet, has_rivals=False),
        coordinator(server.target, fleet, has_rivals=False),
    ):
        async with process_of("agent", server.target, fleet, workers=4) as doomed:
            tasks = await client.submit_many([call("nap", seconds=1.0)] * 4)
            await wait_for(opened, "TaskClaimed", 4)
            await doomed.kill()
        async with agent(server.target, fleet, workers=4):
            outcomes = [await task.result("40s") for task in tasks]
        log = await history(opened)
    assert [(o.state, o.attempts) for o in outcomes] == [("completed", 2)] * 4
    assert len(lost_in(log)) == 1
    returned = Counter(
        r.subject.id for r in log if r.subject and type(r.event).__name__ == "TaskReturned"
    )
    assert sorted(returned.values()) == [1] * 4


async def test_a_server_that_is_away_for_long_starts_no_live_task_twice_and_loses_no_agent(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    async with (
        open_fleet(fresh_server.target, fleet) as opened,
        process_of("coordinator", fresh_server.target, fleet),
        process_of("agent", fresh_server.target, fleet, workers=3),
        process_of("agent", fresh_server.target, fleet, workers=3),
    ):
        await hear_coordinator(opened, GRACE_S + 1)
        run_s = AWAY_S + GRACE_S + 15
        client = Client(opened)
        tasks = await client.submit_many([call("mark", folder=str(marks), seconds=run_s)] * 6)
        await wait_for(opened, "TaskClaimed", 6)
        fresh_server.kill()
        await fresh_server.wait()
        await asyncio.sleep(AWAY_S)  # the absence is what is tested
        await fresh_server.restart()
        await hear_coordinator(opened, GRACE_S + 1)
        outcomes = [await task.result("60s") for task in tasks]
        log = await history(opened)
    assert lost_in(log) == []
    assert [(o.state, o.attempts) for o in outcomes] == [("completed", 1)] * 6
    assert len(await asyncio.to_thread(os.listdir, marks)) == 6


@pytest.mark.skipif(not IS_LONG, reason="takes three servers and minutes: make chaos")
async def test_a_clusters_leader_that_is_killed_loses_no_agent(
    fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    async with running_cluster(tmp_path) as cluster:
        await cluster.make_streams(fleet)
        async with (
            open_fleet(cluster.target, fleet) as opened,
            process_of("coordinator", cluster.target, fleet),
            process_of("agent", cluster.target_of(cluster.nodes[0], *cluster.nodes[1:]), fleet),
            process_of("agent", cluster.target_of(cluster.nodes[1], *cluster.nodes[2:]), fleet),
            process_of("agent", cluster.target_of(cluster.nodes[2], *cluster.nodes[:2]), fleet),
        ):
            await hear_coordinator(opened, GRACE_S + 1)
            client = Client(opened)
            tasks = await client.submit_many([call("mark", folder=str(marks), seconds=90.0)] * 3)
            await wait_for(opened, "TaskClaimed", 3)
            for _ in range(2):
                leader = await cluster.leader_of(fleet)
                began_at = opened.log.now()
                leader.send(signal.SIGKILL)
                await leader.wait()
                await hear_coordinator(opened, GRACE_S + 1)
                back_s = (opened.log.now() - began_at).total_seconds() - GRACE_S - 1
                with capsys.disabled():
                    print(f"\na coordinator was active again {back_s:.1f} s after the kill")
                cluster.start(leader)
                await cluster.wait_ready()
            outcomes = [await task.result("3m") for task in tasks]
            log = await history(opened)
    assert lost_in(log) == []
    assert [(o.state, o.attempts) for o in outcomes] == [("completed", 1)] * 3
    assert len(await asyncio.to_thread(os.listdir, marks)) == 3
