"""A server that comes back without its last second: what was lost is lost, and nobody goes on with it."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from simulation.fleet import NAME, Node, World

from fleetlog.bus.background import background
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.coordinator import Coordinator
from fleetlog.bus.core import RequestCancel, decide
from fleetlog.bus.errors import ConflictError, LogRewound, Unavailable
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.bus.jetstream.last_known import id_of
from fleetlog.bus.log import Append, entry
from fleetlog.bus.queues import queue_state, set_paused
from fleetlog.bus.rules import load_task, subject_of
from fleetlog.schemas.subjects import guard
from tests.unit.simulation.test_found import in_world, verbs


async def lose_last_second(world: World) -> None:
    """The power fails; half a second later all are connected again."""
    world.server.stop()
    await asyncio.sleep(0.5)
    world.server.start(lost_s=1.0)
    await asyncio.sleep(1.0)


def test_a_coordinator_whose_fold_is_ahead_of_the_log_folds_anew() -> None:
    world = World(1)
    world.coordinator()
    world.agent()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        lost = [await client.submit(call("work"), delay=60) for _ in range(5)]
        await lose_last_second(world)
        assert not any(verbs(world, each.task_id) for each in lost)
        # At the sequences of those that were lost.
        kept = [await client.submit(call("work"), delay=1) for _ in range(3)]
        async with asyncio.timeout(20):
            for each in kept:
                assert (await each.result()).result == 0

    in_world(world, run)


def test_a_task_whose_outcome_was_lost_is_done_again() -> None:
    """Its offer was acknowledged, and its agent lives: without that agent's own word nobody ever would."""
    world = World(1)
    world.coordinator()
    world.agent()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        submitted = await client.submit(call("work", ms=2000))
        assert (await submitted.result()).result == 2000
        await lose_last_second(world)
        assert verbs(world, submitted.task_id)[:2] == ["queued", "claimed"]
        async with asyncio.timeout(20):
            assert (await submitted.result()).result == 2000
        assert verbs(world, submitted.task_id) == [
            *("queued", "claimed", "returned", "queued", "claimed", "completed"),
        ]

    in_world(world, run)


def test_a_pause_that_was_lost_is_none() -> None:
    world = World(1)
    world.coordinator()
    world.agent()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        await set_paused(client.fleet, "default", is_paused=True, actor=None, reason=None)
        await lose_last_second(world)
        assert not (await queue_state(client.fleet.log, "default")).is_paused
        async with asyncio.timeout(20):
            submitted = await client.submit(call("work"))
            assert (await submitted.result()).result == 0

    in_world(world, run)


def test_a_queue_for_requirements_that_was_lost_is_made_again() -> None:
    world = World(1)
    world.coordinator()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        await client.submit(call("work"), requires={"gpu": "yes"}, delay=60)
        await lose_last_second(world)
        world.agent(labels={"gpu": "yes"})
        async with asyncio.timeout(20):
            again = await client.submit(call("work"), requires={"gpu": "yes"})
            assert (await again.result()).result == 0

    in_world(world, run)


def test_a_continuation_whose_barrier_was_lost_is_given_up() -> None:
    world = World(1)
    world.coordinator()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        await client.fan_out(FanOut([call("work")], then=call("join")))
        kept = [each for each in world.log if each.subject.endswith(".held")]
        await lose_last_second(world)
        [then] = [each for each in kept if each.subject.split(".")[3].endswith("-then")]
        # As of a writer whose append was under way: its answer was lost with the server.
        task_id, event_id = then.subject.split(".")[3], id_of(then.data)
        thing = guard(NAME, "task", task_id)
        await client.fleet.log.append(Append(then.subject, thing, 0, event_id, then.data))
        await asyncio.sleep(5)
        assert verbs(world, task_id) == ["held", "failed"]

    in_world(world, run)


def test_whoever_follows_the_log_hears_that_it_was_rewound() -> None:
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        await client.submit(call("work"))
        follow = client.fleet.log.follow()
        assert await anext(follow)
        await lose_last_second(world)
        await client.submit(call("work"))
        with pytest.raises(LogRewound):
            await anext(follow)
        assert await client.fleet.log.has_lost()
        assert not await client.fleet.log.has_lost()

    in_world(world, run)


def test_what_was_lost_and_stored_again_at_the_same_place_is_another_event() -> None:
    """Its time is another one, and delays count from it."""
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        submitted = await client.submit(call("work"))
        follow = client.fleet.log.follow()
        [page] = [await anext(follow)]
        await lose_last_second(world)
        stored = page[-1]
        thing = guard(NAME, "task", submitted.task_id)
        again = Append(stored.subject, thing, 0, id_of(stored.data), stored.data)
        assert await client.fleet.log.append(again) == stored.seq
        async with asyncio.timeout(20):
            with pytest.raises(LogRewound):
                await anext(follow)

    in_world(world, run)


def test_a_coordinator_whose_own_event_was_lost_before_it_read_it_does_it_again() -> None:
    world = World(1)
    link = world.coordinator().link

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        submitted = await client.submit(call("work"), delay=3)
        await asyncio.sleep(2)
        hear = link._hear

        def hear_no_events(sid: int, subject: str, *rest: Any) -> None:
            if not subject.startswith("fleetlog."):
                hear(sid, subject, *rest)

        link._hear = hear_no_events  # type: ignore[method-assign]
        await asyncio.sleep(1.3)
        assert verbs(world, submitted.task_id) == ["held", "queued"]
        world.server.stop()
        link._hear = hear  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        world.server.start(lost_s=1.0)
        assert verbs(world, submitted.task_id) == ["held"]
        await asyncio.sleep(10)
        assert verbs(world, submitted.task_id) == ["held", "queued"]

    in_world(world, run)


def test_what_was_there_after_one_break_may_be_lost_at_the_next() -> None:
    """Seed 3468: an agent looked, found all that it had written, and did not look again when that was lost."""
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        await client.submit(call("work"))
        client_node = next(node for node in world.nodes if node.name.startswith("client"))
        client_node.link.cut()
        await asyncio.sleep(0.7)
        assert client_node.link.is_connected
        assert not await client.fleet.log.has_lost()
        await lose_last_second(world)
        assert await client.fleet.log.has_lost()
        assert not await client.fleet.log.has_lost()

    in_world(world, run)


def test_what_was_lost_is_not_appended_to() -> None:
    """Seed 22: its append waited; then another event of the task stood at that very sequence, and it passed."""
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        submitted = await client.submit(call("work"))
        task = await load_task(client.fleet.log, submitted.task_id)
        await lose_last_second(world)
        cancelled = decide(RequestCancel(id="c"), task, client.fleet.log.now())
        subject = subject_of(NAME, task, cancelled)
        started_at = world.loop.at
        with pytest.raises(ConflictError, match="the log has lost event"):
            await client.fleet.log.append(entry(subject, task.version, cancelled))
        assert world.loop.at - started_at < 1

    in_world(world, run)


def test_what_a_coordinator_was_about_to_append_is_dropped_with_what_it_followed_from() -> None:
    """The second task waits for the first; its offer was on its way when the first one's outcome was lost."""
    world = World(1)
    link = world.coordinator().link
    world.agent()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        first = await client.submit(call("work", ms=3000))
        second = await client.submit(call("work"), after=[first.task_id])
        await asyncio.sleep(2.7)
        send = link.send

        def send_no_offer(subject: str, *rest: Any) -> None:
            if second.task_id not in subject:
                send(subject, *rest)

        link.send = send_no_offer  # type: ignore[method-assign]
        await asyncio.sleep(0.7)
        assert verbs(world, first.task_id)[-1] == "completed"
        world.server.stop()
        link.send = send  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        world.server.start(lost_s=1.0)
        assert "completed" not in verbs(world, first.task_id)
        async with asyncio.timeout(30):
            await second.result()
        words = [each.subject.split(".") for each in world.log]
        said = [(word[3], word[-1]) for word in words]
        assert said.index((first.task_id, "completed")) < said.index((second.task_id, "queued"))

    in_world(world, run)


def test_what_a_coordinator_reads_up_to_may_be_lost_before_it_has_read_it() -> None:
    """It waited until the log was as long again."""
    world = World(1)
    node = world.node("coordinator")
    link = node.link
    waited: list[float] = []

    async def work(fleet: Fleet, node: Node) -> None:
        coordinator = Coordinator(fleet)

        async def read_to_the_end() -> None:
            await coordinator.ready.wait()
            await fleet.system.clock.sleep(5)
            with pytest.raises(Unavailable, match="broke"):
                await coordinator._read_to(await fleet.log.end() + 3)
            waited.append(world.loop.at)

        async with background(read_to_the_end()):
            await coordinator.run(node.stopping)

    node.start(work)

    async def run(client: Client) -> None:
        await asyncio.sleep(10)
        assert not waited
        link.cut()
        await asyncio.sleep(3)
        assert waited

    in_world(world, run)


@pytest.mark.parametrize("is_wanted", [True, False])
def test_who_decides_by_what_was_read_looks_for_what_was_only_looked_up(is_wanted: bool) -> None:
    """An agent's loss is another one: of what it wrote itself."""
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        others: list[str] = []

        async def submit(other: Client) -> None:
            others.append((await other.submit(call("work"))).task_id)

        log, hold = client.fleet.log, client.fleet.link.hold
        with hold.wanted() if is_wanted else nullcontext():
            world.client(submit)
            await asyncio.sleep(0.5)
            [task_id] = others
            assert await log.last(guard(NAME, "task", task_id)) is not None
            await lose_last_second(world)
            assert hold.is_on is is_wanted
            assert await log.has_lost() is is_wanted
        assert not hold.is_on

    in_world(world, run)


def test_a_second_break_is_looked_at_too_before_appends_go_on() -> None:
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        link = client.fleet.link
        with link.hold.wanted() as hold:
            breaks = [await _broken(world, link) for _ in range(2)]
            submitting = asyncio.create_task(client.submit(call("work")))
            await asyncio.sleep(2)
            hold.lift(breaks[0])
            await asyncio.sleep(2)
            assert not submitting.done()
            hold.lift(breaks[1])
            await submitting

    in_world(world, run)


async def _broken(world: World, link: Connection) -> int:
    next(node for node in world.nodes if node.name.startswith("client")).link.cut()
    await asyncio.sleep(1)
    return await link.hold.begun()


def test_a_coordinator_that_begins_anew_outlives_the_next_break(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(1)
    node = world.coordinator()

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        await client.submit(call("work"), delay=60)
        forget = Coordinator._forget

        def forget_at_the_next_break(coordinator: Coordinator) -> None:
            forget(coordinator)
            world.server.stop()

        monkeypatch.setattr(Coordinator, "_forget", forget_at_the_next_break)
        await lose_last_second(world)
        await asyncio.sleep(20)
        assert not world.server.is_up
        world.server.start()
        submitted = await client.submit(call("work"), delay=1)
        await asyncio.sleep(15)
        assert not node.ended.is_set()
        assert verbs(world, submitted.task_id) == ["held", "queued"]

    in_world(world, run)


def test_an_outcome_whose_claim_was_lost_is_refused_where_another_event_stands() -> None:
    """Seed 3765: the outcome states the claim's sequence, and at that very one the task has another event."""
    world = World(1)

    async def run(client: Client) -> None:
        await asyncio.sleep(5)
        submitted = await client.submit(call("work", ms=100))
        task_id = submitted.task_id
        await asyncio.sleep(2)
        agent = world.agent()
        send = agent.link.send

        def send_no_outcome(subject: str, *rest: Any) -> None:
            if not (task_id in subject and subject.endswith("completed")):
                send(subject, *rest)

        agent.link.send = send_no_outcome  # type: ignore[method-assign]
        await asyncio.sleep(0.8)
        assert verbs(world, task_id) == ["queued", "claimed"]
        claimed = len(world.log)
        world.server.stop()
        agent.process.pause()
        agent.link.send = send  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        world.server.start(lost_s=1.0)
        await asyncio.sleep(1)
        while len(world.log) < claimed - 1:
            await client.submit(call("work"), delay=600)
        await client.cancel(task_id)
        assert verbs(world, task_id) == ["queued", "cancelled"]
        assert len(world.log) == claimed
        agent.process.resume(world.loop)
        await asyncio.sleep(20)
        assert verbs(world, task_id) == ["queued", "cancelled"]

    in_world(world, run)
