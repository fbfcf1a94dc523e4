"""Three servers, three replicas: leaders that die or leave, rivals on different nodes, nodes that are down."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from support.clusters import NATS, PASSWORD, Cluster, Node, running_cluster
from support.fleets import agent, history

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target, resolve_target
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.jetstream.streams import ensure_streams
from fleetlog.bus.log import Append, EventLog, entry
from fleetlog.bus.settings import Overrides, load_settings
from fleetlog.bus.system import System
from fleetlog.schemas.envelope import Stored
from fleetlog.schemas.events import TaskCancelRequested, TaskQueued, TerminalEvent
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject, guard, tasks

SYSTEM = System()


@pytest.fixture
async def cluster(tmp_path: Path, fleet: str) -> AsyncIterator[Cluster]:
    """A cluster of this test's own, with the fleet's streams in it."""
    async with running_cluster(tmp_path) as running:
        await running.make_streams(fleet)
        yield running


def queued(log: EventLog, task_id: str, queue: str = "default") -> Append:
    event = TaskQueued(
        id=SYSTEM.new_id(),
        occurred_at=log.now(),
        spec=TaskSpec(handler="h", queue=queue),
        digest="d",
    )
    return entry(Subject(log.fleet, "task", task_id, "queued", queue, "normal"), 0, event)


class Writer:
    """Keeps many appends in flight, and remembers each answer."""

    IN_FLIGHT = 100

    def __init__(self, log: EventLog, name: str) -> None:
        self.acknowledged: dict[str, int] = {}
        self._log = log
        self._name = name
        self._is_enough = False
        self._progress = asyncio.Condition()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in range(self.IN_FLIGHT):
                group.create_task(self._append_on(lane))

    async def wait_for(self, count: int) -> None:
        """Returns when so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(60), self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= wanted)

    def stop(self) -> None:
        self._is_enough = True

    async def _append_on(self, lane: int) -> None:
        count = 0
        while not self._is_enough:
            wanted = queued(self._log, f"{self._name}-{lane}-{count}")
            count += 1
            self.acknowledged[wanted.event_id] = await self._log.append(wanted)
            async with self._progress:
                self._progress.notify_all()


async def kill(node: Node) -> None:
    node.send(signal.SIGKILL)
    await node.wait()


async def stop(node: Node) -> None:
    node.send(signal.SIGTERM)
    await node.wait()


async def read(log: EventLog, *, after: int = 0, subjects: str | None = None) -> list[Stored]:
    pages = log.read(after=after, subjects=subjects)
    return [stored async for page in pages for stored in page]


def id_of(stored: Stored) -> str:
    found: str = msgspec.json.decode(stored.data)["id"]
    return found


@pytest.mark.parametrize("leave", [kill, stop], ids=["killed", "stopped"])
async def test_appends_outlive_their_leader_and_stand_in_the_log_once(
    cluster: Cluster, fleet: str, leave: Callable[[Node], asyncio.Future[None]]
) -> None:
    """One writer is connected to the leader, the other to a follower."""
    leader = await cluster.leader_of(fleet)
    other = next(node for node in cluster.nodes if node is not leader)
    async with (
        open_fleet(cluster.target_of(leader), fleet) as near,
        open_fleet(cluster.target_of(other), fleet) as far,
    ):
        writers = [Writer(near.log, "near"), Writer(far.log, "far")]
        async with asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(writer.run())
            for writer in writers:
                await writer.wait_for(500)
            await leave(leader)
            # The answers that were on their way may still count, so more of them than were in flight.
            for writer in writers:
                await writer.wait_for(2 * Writer.IN_FLIGHT)
                writer.stop()
        stored = await read(far.log)
    assert (await cluster.leader_of(fleet)) is not leader
    acknowledged = writers[0].acknowledged | writers[1].acknowledged
    times = Counter(map(id_of, stored))
    assert {each: count for each, count in times.items() if count > 1} == {}
    assert set(times) ^ set(acknowledged) == set()
    assert {id_of(each): each.seq for each in stored} == acknowledged


async def test_of_two_rivals_on_different_nodes_one_wins_each_round(
    cluster: Cluster, fleet: str
) -> None:
    here, there, _ = cluster.nodes
    async with (
        open_fleet(cluster.target_of(here), fleet) as one,
        open_fleet(cluster.target_of(there), fleet) as two,
    ):
        expected = await one.log.append(queued(one.log, "contested"))
        for round_number in range(100):
            answers = await asyncio.gather(
                *(log.append(cancel_requested(log, expected)) for log in (one.log, two.log)),
                return_exceptions=True,
            )
            kinds = sorted(type(answer).__name__ for answer in answers)
            assert kinds == ["ConflictError", "int"], f"round {round_number}: {answers}"
            expected = next(answer for answer in answers if isinstance(answer, int))
        thing = await one.log.read_thing(guard(fleet, "task", "contested"))
    assert len(thing) == 101
    assert thing[-1].seq == expected


async def test_reading_brings_what_was_acknowledged_though_a_replica_lags(
    cluster: Cluster, fleet: str
) -> None:
    """A reader's consumer lives on one node, which may not have heard yet of what two others have stored."""
    leader = await cluster.leader_of(fleet)
    late = next(node for node in cluster.nodes if node is not leader)
    count = 0
    async with open_fleet(cluster.target_of(leader), fleet) as opened:
        log = opened.log
        for round_number in range(5):
            late.send(signal.SIGSTOP)
            wanted = [queued(log, f"t{round_number}-{n}", queue=f"q{n % 2}") for n in range(1000)]
            await asyncio.gather(*[log.append(each) for each in wanted])
            late.send(signal.SIGCONT)
            before, count = count, count + len(wanted)
            # Readers enough that one of them meets the late node.
            for _ in range(4):
                whole, odd, new = await asyncio.gather(
                    read(log), read(log, subjects=tasks(fleet, "q1")), read(log, after=before + 500)
                )
                assert [each.seq for each in whole] == list(range(1, count + 1))
                assert odd == [each for each in whole if ".q1." in each.subject]
                assert new == whole[before + 500 :]


async def test_the_script_of_deploy_makes_streams_that_are_kept_three_times(
    cluster: Cluster,
) -> None:
    url = ",".join(
        node.url.replace("//", f"//fleetlog:{PASSWORD}@") for node in reversed(cluster.nodes)
    )
    made = await asyncio.create_subprocess_exec(
        sys.executable,
        NATS / "make-streams",
        env={**os.environ, "FLEETLOG_URL": url, "FLEETLOG_FLEET": "made"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await made.communicate()
    assert made.returncode == 0
    assert b"fleet made" in output
    async with connect(cluster.target, SYSTEM.clock) as connection:
        assert await ensure_streams(connection, "made") == 3


async def test_a_command_connects_while_any_of_its_addresses_answers(
    cluster: Cluster, fleet: str
) -> None:
    down, *up = cluster.nodes
    await stop(down)
    await cluster.leader_of(fleet)
    urls = ",".join(node.url.replace("//", f"//fleetlog:{PASSWORD}@") for node in (down, *up))
    target = resolve_target(load_settings(Overrides(url=urls), environ={}))
    async with open_fleet(target, fleet) as opened:
        assert await opened.log.append(queued(opened.log, "a")) == 1


async def test_credentials_in_an_address_hold_for_the_nodes_that_it_leads_to(
    cluster: Cluster, fleet: str
) -> None:
    """The servers tell a client of each other, without passwords."""
    known = await cluster.leader_of(fleet)
    target = Target(url=known.url.replace("//", f"//fleetlog:{PASSWORD}@"))
    async with open_fleet(target, fleet) as opened:
        await opened.log.append(queued(opened.log, "before"))
        await stop(known)
        async with asyncio.timeout(30):
            assert await opened.log.append(queued(opened.log, "after")) == 2


async def test_tasks_complete_once_though_the_leader_dies_under_them(
    cluster: Cluster, fleet: str
) -> None:
    leader = await cluster.leader_of(fleet)
    async with (
        open_fleet(cluster.target, fleet, ack_wait_s=3.0) as opened,
        agent(cluster.target, fleet, workers=1, concurrency=8, ack_wait_s=3.0),
    ):
        client = Client(opened)
        submitted = await client.submit_many([call("nap", seconds=0.05)] * 100)
        await submitted[0].result("30s")
        await kill(leader)
        submitted += await client.submit_many([call("noop")] * 50)
        outcomes = [await each.result("90s") for each in submitted]
        ends = Counter(
            record.subject.id
            for record in await history(opened)
            if record.subject is not None and isinstance(record.event, TerminalEvent)
        )
    assert {outcome.state for outcome in outcomes} == {"completed"}
    assert ends == {each.task_id: 1 for each in submitted}


def cancel_requested(log: EventLog, expected: int) -> Append:
    event = TaskCancelRequested(id=SYSTEM.new_id(), occurred_at=log.now())
    subject = Subject(log.fleet, "task", "contested", "cancel_requested", "default", "normal")
    return entry(subject, expected, event)
