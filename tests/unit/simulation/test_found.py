"""What the simulator found, each in the smallest world that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from simulation.fleet import World
from simulation.server import SimServer

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.rules import load_task
from fleetlog.schemas.subjects import guard

pytestmark = pytest.mark.usefixtures("unmeasured")


def verbs(world: World, task_id: str) -> list[str]:
    words = (kept.subject.split(".") for kept in world.log)
    return [word[-1] for word in words if word[3] == task_id]


def in_world(world: World, run: Callable[[Client], Awaitable[None]]) -> None:
    """Runs a client's part to its end."""
    failed: list[BaseException] = []

    async def story() -> None:
        async def guarded(client: Client) -> None:
            try:
                await run(client)
            except BaseException as error:
                failed.append(error)
                raise

        await world.client(guarded).ended.wait()

    world.run(story())
    if failed:
        raise failed[0]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_wall_clock_that_is_set_moves_nothing(ahead: timedelta) -> None:
    """Seed 179 of an early form: tasks expired an hour too soon, as a coordinator's clock had been set."""
    world = World(1)
    coordinator = world.coordinator()

    async def run(client: Client) -> None:
        delayed = await client.submit(call("work"), delay=600)
        fleeting = await client.submit(call("work"), expires=600)
        await asyncio.sleep(5)
        coordinator.machine.clock.skew = ahead
        await client.submit(call("work"))  # so that it looks for what is due
        await asyncio.sleep(580)
        assert verbs(world, delayed.task_id) == ["held"]
        assert verbs(world, fleeting.task_id) == ["queued"]
        await asyncio.sleep(20)
        assert verbs(world, delayed.task_id) == ["held", "queued"]
        assert verbs(world, fleeting.task_id) == ["queued", "expired"]

    in_world(world, run)


def test_the_servers_time_is_asked_for_again_when_the_machine_has_slept() -> None:
    """Its monotonic clock stood still meanwhile; its wall clock did not."""
    world = World(1)
    seen: list[tuple[bool, float]] = []

    async def run(client: Client) -> None:
        node = world.nodes[-1]
        await asyncio.sleep(3)
        node.machine.clock.slept_s = 500.0
        node.machine.clock.skew = timedelta()
        for _ in range(2):
            apart = (world.server.now() - client.fleet.log.now()).total_seconds()
            seen.append((client.fleet.link.is_time_doubtful, apart))
            await asyncio.sleep(3)

    in_world(world, run)
    (was_doubtful, apart), (is_doubtful, now_apart) = seen
    assert was_doubtful
    assert apart == pytest.approx(500, abs=1)
    assert not is_doubtful
    assert now_apart == pytest.approx(0, abs=0.1)


def test_a_task_is_never_folded_around_a_message_that_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seed 198 of an early form: without its claim a completed task looked as if it could be cancelled."""
    world = World(1)
    world.coordinator()
    world.agent()
    lost: list[bytes] = []

    async def run(client: Client) -> None:
        submitted = await client.submit(call("work"))
        await submitted.result()
        told = SimServer._tell

        def tell(
            server: SimServer, to: str, subject: str, reply: str, header: bytes, data: bytes
        ) -> bool:
            if b"Nats-Last-Sequence" in header and b".claimed" in header and not lost:
                lost.append(data)
                return True
            return told(server, to, subject, reply, header, data)

        monkeypatch.setattr(SimServer, "_tell", tell)
        task = await load_task(client.fleet.log, submitted.task_id)
        assert task.status == "completed"
        assert lost

    in_world(world, run)


def test_all_events_of_a_thing_are_read_in_order() -> None:
    world = World(3)

    async def run(client: Client) -> None:
        submitted = await client.submit(call("work"))
        found: list[Any] = await client.fleet.log.read_thing(
            guard("main", "task", submitted.task_id)
        )
        assert [stored.seq for stored in found] == [submitted.seq]

    in_world(world, run)
