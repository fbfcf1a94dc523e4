"""Offers that reach nobody are made again, and no others: real consumers, an agent that breaks the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for
from support.mock_clis import agent_environment, claude

from fleetlog.bus.bounds import set_limit
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.core.stuck import Progress
from fleetlog.bus.credentials import pause
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.offers import Lane, Offer
from fleetlog.bus.queues import set_paused
from fleetlog.bus.stuck_offers import StuckOffers, StuckTimes
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.events import CredentialPaused, LimitSet, TaskQueued
from fleetlog.schemas.requirements import offer_queue
from fleetlog.schemas.specs import TaskSpec

SOON = StuckTimes(after_s=0.2, look_s=0.1)
DEFAULT = Lane("default", "normal")


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


class BrokenAgent:
    """Takes offers as an agent does, and acknowledges them without a claim."""

    def __init__(self, fleet: Fleet, lane: Lane) -> None:
        self._fleet = fleet
        self._lane = lane

    async def take(self) -> Offer:
        """The next offer."""
        found: list[Offer] = []
        async with asyncio.timeout(20):
            while not await self._fleet.offers.take(self._lane, 1, found.append):
                pass  # a consumer hears of a stored message a moment after its writer
        return found[0]

    async def drop(self) -> int:
        """Acknowledges the next offer; its sequence."""
        offer = await self.take()
        self._fleet.offers.ack(offer.ack_subject)
        async with asyncio.timeout(20):
            while (await progress(self._fleet, self._lane)).ack_floor < offer.seq:
                pass  # an ack is not answered
        return offer.seq


async def broken_agent(fleet: Fleet, lane: Lane = DEFAULT) -> BrokenAgent:
    await fleet.offers.bind([lane], lambda _: None, lambda: None)
    return BrokenAgent(fleet, lane)


async def progress(fleet: Fleet, lane: Lane = DEFAULT) -> Progress:
    found = await fleet.offers.progress(lane)
    assert found is not None
    return found


async def stuck(fleet: Fleet) -> list[str]:
    """What a look at all that is on offer finds, by id."""
    fold = Unsettled()

    async def read_to(seq: int) -> None:
        while fold.seq < seq:
            async for page in fleet.log.read(after=fold.seq):
                for stored in page:
                    fold.take(stored)

    await read_to(await fleet.log.end())
    return [task.id for task in await StuckOffers(fleet, fold.tasks, read_to, 0.0).look()]


async def offers_of(client: Client, task_id: str) -> list[TaskQueued]:
    events = (await client.get(task_id)).events
    return [record.event for record in events if isinstance(record.event, TaskQueued)]


async def test_what_a_broken_agent_threw_away_is_offered_again_and_runs(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    broken = await broken_agent(client.fleet)
    task = await client.submit(call("noop", n=7))
    assert await broken.drop() == task.seq
    async with coordinator(server.target, fleet, stuck=SOON) as one:
        assert one.violation_count == 0
        # It is thrown away once more, and comes again.
        second = await wait_for(client.fleet, "TaskQueued", 2)
        assert await broken.drop() == second[1].seq
        await wait_for(client.fleet, "TaskQueued", 3)
        async with agent(server.target, fleet):
            outcome = await task.result("20s")
    assert (outcome.result, outcome.attempts) == (7, 1)
    events = [type(record.event).__name__ for record in (await client.get(task.task_id)).events]
    assert events == [*["TaskQueued"] * 3, "TaskClaimed", "TaskCompleted"]
    again = (await offers_of(client, task.task_id))[1]
    assert "stuck" in (again.reason or "")


async def test_an_offer_is_left_alone_before_its_time(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    broken = await broken_agent(client.fleet)
    old = await client.submit(TaskSpec(handler="h"))
    await broken.drop()
    async with coordinator(server.target, fleet, stuck=StuckTimes(after_s=2.0, look_s=0.05)):
        await wait_for(client.fleet, "TaskQueued", 2)
    first, again = [r for r in await history(client.fleet) if isinstance(r.event, TaskQueued)]
    assert again.event.id == f"{old.task_id}-{old.seq}-again"
    assert (again.stored_at - first.stored_at).total_seconds() >= 2.0


async def test_two_coordinators_at_once_offer_it_once(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    broken = await broken_agent(client.fleet)
    tasks = await client.submit_many([TaskSpec(handler="h")] * 20)
    for _ in tasks:
        await broken.drop()
    async with (
        coordinator(server.target, fleet, has_rivals=False, stuck=SOON),
        coordinator(server.target, fleet, has_rivals=False, stuck=SOON),
    ):
        await wait_for(client.fleet, "TaskQueued", 40)
        await canary(client, 3)
    for task in tasks:
        assert len(await offers_of(client, task.task_id)) == 2


async def test_a_consumer_that_was_made_to_begin_above_an_offer(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await broken_agent(client.fleet)
    below = await client.submit(call("noop", n=3))
    above = await client.submit(call("noop", n=4))
    await remove_consumer(client.fleet)
    assert await stuck(client.fleet) == []
    await make_consumer(client.fleet, above.seq)
    assert (await progress(client.fleet)).ack_floor == below.seq
    assert await stuck(client.fleet) == [below.task_id]
    async with coordinator(server.target, fleet, stuck=SOON), agent(server.target, fleet):
        assert (await below.result("20s")).result == 3
        assert (await above.result("20s")).result == 4
    assert len(await offers_of(client, above.task_id)) == 1


async def test_without_a_consumer_an_agent_that_comes_finds_every_offer(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    broken = await broken_agent(client.fleet)
    dropped = await client.submit(call("noop", n=1))
    await broken.drop()
    later = await client.submit(call("noop", n=2))
    assert await stuck(client.fleet) == [dropped.task_id]
    await remove_consumer(client.fleet)
    assert await client.fleet.offers.progress(DEFAULT) is None
    assert await stuck(client.fleet) == []
    async with agent(server.target, fleet):
        assert (await dropped.result("20s")).result == 1
        assert (await later.result("20s")).result == 2
    for task in (dropped, later):
        assert len(await offers_of(client, task.task_id)) == 1


async def test_what_was_given_out_or_back_is_not_stuck_until_it_is_acknowledged(
    client: Client,
) -> None:
    broken = await broken_agent(client.fleet)
    tasks = await client.submit_many([TaskSpec(handler="h")] * 2)
    first, second = await broken.take(), await broken.take()
    assert await stuck(client.fleet) == []
    client.fleet.offers.nak(first.ack_subject, 30.0)
    client.fleet.offers.nak(second.ack_subject)
    again = await broken.take()
    assert again.seq == second.seq
    assert await stuck(client.fleet) == []
    client.fleet.offers.ack(again.ack_subject)
    async with asyncio.timeout(20):
        while (await progress(client.fleet)).unacked > 1:
            pass  # an ack is not answered
    # The one or the other: only the count is known, and nothing that runs accounts for it.
    assert await stuck(client.fleet) == []
    client.fleet.offers.ack(first.ack_subject)
    async with asyncio.timeout(20):
        while not (found := await stuck(client.fleet)):
            pass
    assert found == [tasks[0].task_id, tasks[1].task_id]


async def test_what_waits_for_a_paused_queue_or_credential_is_offered_once(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    log = client.fleet.log
    paused = CredentialPaused(
        id="by hand", occurred_at=log.now(), error_class="paused", error="by hand"
    )
    await pause(log, "claude", paused)
    async with (
        coordinator(server.target, fleet, stuck=SOON),
        agent(
            server.target,
            fleet,
            workers=2,
            queues=("default", "shut"),
            environ=agent_environment(tmp_path),
            drain_s=0.1,
        ),
    ):
        # In one lane with what runs, which keeps its own offers.
        running = await client.submit(call("nap", seconds=60))
        await wait_for(client.fleet, "TaskClaimed", task_id=running.task_id)
        limited = [await client.submit(claude()) for _ in range(3)]
        async with asyncio.timeout(20):
            while (await progress(client.fleet)).unacked < 4:
                pass  # until they have gone back for want of the credential
        # One that the agent asked for before it heard of the pause goes back too.
        shut = [await client.submit(call("noop"), queue="shut")]
        await shut[0].result("20s")
        await set_paused(client.fleet, "shut", is_paused=True, actor=None, reason=None)
        shut += [await client.submit(call("noop"), queue="shut") for _ in range(3)]
        await canary(client, 5)
        for task in (*limited, *shut):
            assert len(await offers_of(client, task.task_id)) == 1
        await set_paused(client.fleet, "shut", is_paused=False, actor=None, reason=None)
        for task in shut:
            assert (await task.result("20s")).is_completed
        await running.cancel()


async def test_it_stays_on_its_host_and_under_its_limit(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    home = Lane(offer_queue("default", {"host": "h1"}), "normal")
    bound = LimitSet(id="one", occurred_at=client.fleet.log.now(), key="k", concurrency=1)
    await set_limit(client.fleet, bound)
    spec = msgspec.structs.replace(
        call("noop"), affinity="shop", affinity_ms=600_000, limits=("k",)
    )
    async with (
        coordinator(server.target, fleet, stuck=SOON),
        agent(server.target, fleet, host="h1"),
    ):
        await (await client.submit(spec)).result("20s")
        # It has its lanes now; another one of the host is busy, and this test plays it.
        broken = await broken_agent(client.fleet, home)
        await set_paused(client.fleet, "default", is_paused=True, actor=None, reason=None)
        first, second = await client.submit(spec), await client.submit(spec)
        await wait_for(client.fleet, "TaskQueued", 2)
        for count in (3, 4):
            await broken.drop()
            await wait_for(client.fleet, "TaskQueued", count)
        offered = await offers_of(client, first.task_id)
        assert [event.host for event in offered] == ["h1"] * 3
        assert await offers_of(client, second.task_id) == []
        await set_paused(client.fleet, "default", is_paused=False, actor=None, reason=None)
        assert (await first.result("20s")).is_completed
        assert (await second.result("20s")).is_completed
    assert len(await offers_of(client, second.task_id)) == 1


async def canary(client: Client, looks: int) -> None:
    """Waits until the coordinator has looked so many times: each time it offers this task again."""
    lane = Lane("canary", "normal")
    broken = await broken_agent(client.fleet, lane)
    task = await client.submit(TaskSpec(handler="h", queue=lane.queue))
    for count in range(2, looks + 2):
        await broken.drop()
        await wait_for(client.fleet, "TaskQueued", count, task_id=task.task_id)


async def remove_consumer(fleet: Fleet) -> None:
    await fleet.link.request(f"$JS.API.CONSUMER.DELETE.FLEETLOG_{fleet.name}.offers_default_normal")


async def make_consumer(fleet: Fleet, first: int) -> None:
    """As agents make it, but for where it begins."""
    name, stream = "offers_default_normal", f"FLEETLOG_{fleet.name}"
    config = {
        "name": name,
        "durable_name": name,
        "ack_policy": "explicit",
        "filter_subject": f"fleetlog.{fleet.name}.task.*.default.normal.queued",
        "ack_wait": 30_000_000_000,
        "max_deliver": -1,
        "max_ack_pending": -1,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first,
    }
    await fleet.link.request(
        f"$JS.API.CONSUMER.CREATE.{stream}.{name}.{config['filter_subject']}",
        {"stream_name": stream, "config": config, "action": ""},
    )
