"""Schedules on a real log: who makes what, and when."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for
from support.schedules import made, set_quickly

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.core.schedule import instants, task_id_of
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ScheduleExists
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.schedules import Wanted, change_schedule, load_schedule, set_schedule
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec

SPEC = TaskSpec(handler="h", queue="nobody")
SECOND = timedelta(seconds=1)


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


async def due(fleet: Fleet, name: str, count: int) -> list[datetime]:
    """The first instants of a schedule."""
    schedule = await load_schedule(fleet.log, name)
    assert schedule.since is not None
    found = instants(schedule, schedule.since, schedule.since + timedelta(days=1))
    return [next(found) for _ in range(count)]


async def wait_made(fleet: Fleet, name: str, count: int) -> dict[datetime, int]:
    """Follows the log until the schedule has made so many tasks, and gives how many of each instant."""
    async with asyncio.timeout(30):
        number = count
        while len(found := await made(fleet, name)) < count:
            await wait_for(fleet, "TaskQueued", number)
            number += 1
    return found


async def test_each_instant_makes_a_task_and_the_tasks_run(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    wanted = Wanted(spec=call("add", a=1, b=2), every_ms=1_000)
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        await set_schedule(client.fleet, "sums", wanted)
        first, second = await due(client.fleet, "sums", 2)
        await wait_made(client.fleet, "sums", 2)
        for instant in (first, second):
            task_id = task_id_of("sums", instant)
            outcome = await client.result(task_id, "20s")
            assert (outcome.state, outcome.result) == ("completed", 3)
            found = await client.get(task_id)
            assert found.task.spec is not None
            assert found.task.spec.schedule == "sums"
            late = found.events[0].stored_at - instant
            # Not before its time, but for the clocks' difference, and soon after it.
            assert -SECOND / 2 < late < 2 * SECOND


async def test_two_coordinators_at_once_make_one_task_for_each_instant(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        coordinator(server.target, fleet, has_rivals=False),
        coordinator(server.target, fleet, has_rivals=False),
    ):
        await set_quickly(client.fleet, "quick", 50)
        found = await wait_made(client.fleet, "quick", 40)
    assert set(found.values()) == {1}
    assert sorted(found)[:40] == await due(client.fleet, "quick", 40)


async def test_what_came_while_there_was_no_coordinator_is_made_up_for(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await set_quickly(client.fleet, "quick", 200)
    expected = await due(client.fleet, "quick", 5)
    left = expected[-1] - client.fleet.log.now()
    await asyncio.sleep(left.total_seconds())  # the absence is what is tested
    async with coordinator(server.target, fleet):
        found = await wait_made(client.fleet, "quick", 5)
    assert sorted(found)[:5] == expected
    assert set(found.values()) == {1}


async def test_a_new_coordinator_goes_on_where_the_snapshot_ends(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet):
        await set_quickly(client.fleet, "quick", 200)
        await wait_made(client.fleet, "quick", 3)
    async with coordinator(server.target, fleet) as other:
        assert other._saved_seq > 0
        found = await wait_made(client.fleet, "quick", 10)
    assert sorted(found)[:10] == await due(client.fleet, "quick", 10)
    assert set(found.values()) == {1}


async def test_a_pause_makes_nothing_and_is_not_made_up_for(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet):
        await set_quickly(client.fleet, "quick", 100)
        await wait_made(client.fleet, "quick", 2)
        paused, _ = await change_schedule(client.fleet, "quick", "paused")
        # Another one tells that time goes on, and that someone acts.
        await set_quickly(client.fleet, "other", 100)
        await wait_made(client.fleet, "other", 5)
        resumed, _ = await change_schedule(client.fleet, "quick", "resumed")
        before = len(await made(client.fleet, "quick"))
        found = await wait_made(client.fleet, "quick", before + 3)
    assert paused.changed_at is not None
    assert resumed.since is not None
    # What was on its way when the pause came is let through.
    slack = timedelta(milliseconds=100)
    assert not [at for at in found if paused.changed_at + slack < at <= resumed.since]


async def test_with_skip_none_is_made_while_the_one_before_has_not_settled(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet):
        await set_quickly(client.fleet, "slow", 100, overlap="skip")
        await set_quickly(client.fleet, "other", 100)
        await wait_made(client.fleet, "other", 8)
        [first] = await made(client.fleet, "slow")
        task_id = task_id_of("slow", first)
        await client.cancel(task_id)
        settled = (await client.get(task_id)).events[-1].stored_at
        found = await wait_made(client.fleet, "slow", 2)
    assert sorted(found)[1] > settled
    assert set(found.values()) == {1}


async def test_after_its_removal_and_a_new_rule_it_makes_what_the_new_one_says(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet):
        await set_quickly(client.fleet, "quick", 100)
        await wait_made(client.fleet, "quick", 2)
        await change_schedule(client.fleet, "quick", "removed")
        known = await made(client.fleet, "quick")
        await set_schedule(client.fleet, "quick", Wanted(spec=SPEC, every_ms=1_000))
        found = await wait_made(client.fleet, "quick", len(known) + 3)
        expected = await due(client.fleet, "quick", 2)
    # Perhaps one more that was on its way.
    assert set(expected) <= set(found)
    assert {at for at in found if at > expected[0]} <= set(await due(client.fleet, "quick", 10))


async def test_of_many_who_set_at_once_one_is_first(client: Client) -> None:
    async def attempt(seconds: int) -> bool:
        wanted = Wanted(spec=SPEC, every_ms=seconds * 1_000)
        try:
            return (await set_schedule(client.fleet, "s", wanted))[1]
        except ScheduleExists:
            return False

    answers = await asyncio.gather(*map(attempt, range(10, 20)))
    assert Counter(answers) == {True: 1, False: 9}
    assert len(await history(client.fleet)) == 1


async def test_nobody_submits_a_schedules_task(client: Client) -> None:
    spec: Any = msgspec.structs.replace(SPEC, schedule="s")
    with pytest.raises(InvalidInput, match="schedule is a schedule's to set"):
        await client.submit(spec, task_id="s-20260101T000000Z")
