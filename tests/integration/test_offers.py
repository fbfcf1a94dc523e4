"""Offers on real consumers: taking, expecting, giving back, and consumers that go missing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from support.fleets import TESTS, agent, history, wait_for
from support.targets import text_of

from fleetlog.bus.background import background
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.offers import Backlog, Lane, Offer
from fleetlog.schemas.events import TaskClaimed
from fleetlog.schemas.specs import TaskSpec

LANE = Lane("default", "normal")


class Arrivals:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Offer] = asyncio.Queue()

    async def next(self) -> Offer:
        async with asyncio.timeout(10):
            return await self.queue.get()


@pytest.fixture
async def opened(server: EmbeddedServer, fleet: str) -> AsyncIterator[Fleet]:
    async with open_fleet(server.target, fleet, ack_wait_s=1.0) as opened:
        yield opened


async def bind(fleet: Fleet, *lanes: Lane) -> Arrivals:
    arrivals = Arrivals()
    await fleet.offers.bind(lanes or (LANE,), arrivals.queue.put_nowait, lambda: None)
    return arrivals


async def submit(fleet: Fleet, count: int) -> list[str]:
    submitted = await Client(fleet).submit_many([TaskSpec(handler="h")] * count)
    return [each.task_id for each in submitted]


def assert_same(found: Backlog | None, wanted: Backlog) -> None:
    # One reader cuts the server's nanoseconds off, another rounds them.
    assert found is not None
    assert found.count == wanted.count
    assert abs(found.oldest_at - wanted.oldest_at) <= timedelta(microseconds=1)


async def test_the_backlog_is_what_nobody_was_given_and_how_old_it_is(opened: Fleet) -> None:
    await submit(opened, 1)  # before the lane has a consumer
    await bind(opened, LANE, Lane("other", "normal"))
    await submit(opened, 3)
    stored = [record.stored_at for record in await history(opened)]
    assert_same(await opened.offers.backlog(LANE), Backlog(4, stored[0]))
    await take(opened, 3)
    assert_same(await opened.offers.backlog(LANE), Backlog(1, stored[3]))
    await take(opened, 1)
    assert await opened.offers.backlog(LANE) is None
    assert await opened.offers.backlog(Lane("other", "normal")) is None


async def test_take_brings_what_waits_and_no_more(opened: Fleet) -> None:
    await bind(opened)
    assert await opened.offers.take(LANE, 5, never) == 0
    ids = await submit(opened, 7)
    first = await take(opened, 5)
    rest = await take(opened, 2)
    assert len(first) == 5
    assert await opened.offers.take(LANE, 5, never) == 0
    assert {offer.task_id for offer in first + rest} == set(ids)
    assert all(offer.deliveries == 1 for offer in first)


async def test_what_is_expected_arrives_by_itself(opened: Fleet) -> None:
    arrivals = await bind(opened)
    opened.offers.expect(LANE, 2, 10.0)
    ids = await submit(opened, 2)
    assert {(await arrivals.next()).task_id, (await arrivals.next()).task_id} == set(ids)


async def test_an_offer_given_back_comes_again_and_an_acknowledged_one_does_not(
    opened: Fleet,
) -> None:
    await bind(opened)
    await submit(opened, 1)
    (offer,) = await take(opened, 1)
    opened.offers.nak(offer.ack_subject)
    (again,) = await take(opened, 1)
    assert (again.seq, again.deliveries) == (offer.seq, 2)
    opened.offers.ack(again.ack_subject)
    async with asyncio.timeout(10):
        while (info := await consumer_info(opened))["num_ack_pending"] != 0:
            pass  # an ack is not answered
    assert info["num_pending"] == 0
    assert await opened.offers.take(LANE, 1, never) == 0


async def test_a_word_of_progress_keeps_an_offer_from_others(opened: Fleet) -> None:
    """Without it the offer comes again after the ack wait of a second."""
    arrivals = await bind(opened)
    await submit(opened, 2)
    kept, dropped = await take(opened, 2)
    opened.offers.expect(LANE, 2, 10.0)

    async def keep() -> None:
        while True:
            opened.offers.in_progress(kept.ack_subject)
            await asyncio.sleep(0.2)  # the rhythm is what is tested

    keeping = asyncio.ensure_future(keep())
    again = await arrivals.next()
    keeping.cancel()
    assert (again.seq, again.deliveries) == (dropped.seq, 2)
    assert arrivals.queue.empty()


async def test_a_consumer_that_was_removed_is_made_again_without_the_settled_offers(
    opened: Fleet, server: EmbeddedServer, fleet: str
) -> None:
    async with agent(server.target, fleet, ack_wait_s=1.0):
        done = [await Client(opened).submit(call("noop")) for _ in range(3)]
        for each in done:
            await each.result("20s")
    open_ids = await submit(opened, 2)
    await bind(opened)
    await opened.link.request(f"$JS.API.CONSUMER.DELETE.FLEETLOG_{fleet}.offers_default_normal")
    async with background(opened.offers.run()):
        found = await take(opened, 2)
    assert [offer.task_id for offer in found] == open_ids
    assert (await consumer_info(opened))["config"]["opt_start_seq"] == found[0].seq


async def test_a_consumer_with_wrong_settings_is_refused(opened: Fleet, fleet: str) -> None:
    config = {
        "name": "offers_default_normal",
        "durable_name": "offers_default_normal",
        "ack_policy": "explicit",
        "max_deliver": 3,
        "filter_subject": f"fleetlog.{fleet}.task.*.default.normal.queued",
    }
    await opened.link.request(
        f"$JS.API.CONSUMER.CREATE.FLEETLOG_{fleet}.offers_default_normal.{config['filter_subject']}",
        {"stream_name": f"FLEETLOG_{fleet}", "config": config, "action": ""},
    )
    with pytest.raises(ConfigError, match="max_deliver"):
        await bind(opened)


async def test_an_agent_that_dies_has_its_task_taken_over_by_redelivery_alone(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    """No coordinator runs: the other agent needs its own evidence that the holder is gone."""
    async with open_fleet(server.target, fleet) as opened:
        target = msgspec.structs.replace(server.target, store=None)
        doomed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "support.fleets"),
            *(text_of(target), fleet, "1.0"),
            env={**os.environ, "PYTHONPATH": TESTS},
        )
        task = await Client(opened).submit(call("mark", folder=str(tmp_path), seconds=4.0))
        await wait_for(opened, "TaskClaimed", task_id=task.task_id)
        doomed.send_signal(signal.SIGKILL)
        await doomed.wait()
        async with agent(server.target, fleet, ack_wait_s=1.0) as heir:
            outcome = await task.result("40s")
        claims = [r.event for r in await history(opened, types=("TaskClaimed",))]
    assert (outcome.state, outcome.attempts) == ("completed", 2)
    assert isinstance(claims[1], TaskClaimed)
    assert claims[1].agent_id == heir.agent_id
    assert claims[1].over is not None


def never(offer: Offer) -> None:
    raise AssertionError(f"offered {offer}")


async def take(fleet: Fleet, count: int) -> list[Offer]:
    """Takes until there are `count`: a consumer hears of a stored message a moment after its writer."""
    found: list[Offer] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            await fleet.offers.take(LANE, count - len(found), found.append)
    return found


async def consumer_info(fleet: Fleet) -> dict[str, object]:
    subject = f"$JS.API.CONSUMER.INFO.FLEETLOG_{fleet.name}.offers_default_normal"
    return msgspec.json.decode(await fleet.link.request(subject))  # type: ignore[no-any-return]


async def test_a_running_attempt_keeps_its_offer_for_longer_than_the_ack_wait(
    opened: Fleet, server: EmbeddedServer, fleet: str
) -> None:
    async with agent(server.target, fleet, ack_wait_s=1.0):
        task = await Client(opened).submit(call("nap", seconds=3.0))
        await task.result("20s")
    assert (await consumer_info(opened))["delivered"]["consumer_seq"] == 1  # type: ignore[index]
