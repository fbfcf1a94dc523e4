"""Which offers a feeder takes for the slots that are free, and which of these it keeps for high tasks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.workers import Happenings

from fleetlog.agents.feeder import Feeder
from fleetlog.agents.lanes import QueueShare
from fleetlog.agents.pool import PoolOptions, WorkerPool
from fleetlog.agents.slots import Reserve, Slot
from fleetlog.bus.offers import Lane, Offer, Taken
from fleetlog.bus.system import System
from fleetlog.schemas.subjects import PRIORITIES, Priority

HIGH, NORMAL, LOW = (Lane("default", priority) for priority in PRIORITIES)


class Seat:
    """A worker as a pool counts it."""

    is_ready = True

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.slots_held = 0
        self.slots_lent = 0


class Lanes:
    """Offers in memory: what waits, what was asked for, and what went back."""

    ack_wait_s = 30.0

    def __init__(self) -> None:
        self.waiting: Counter[Lane] = Counter()
        self.expected: Counter[Lane] = Counter()
        self.taken: Counter[Lane] = Counter()
        self.returned: list[Lane] = []
        self.requests: list[tuple[Lane, int]] = []
        self.answers = asyncio.Event()
        """Cleared, nothing that is taken is answered until it is set."""
        self.answers.set()
        self.turns: Counter[Lane] = Counter()
        """How long a lane takes to answer."""
        self._seq = 0
        self._arrived: Callable[[Offer], None] = lambda _: None

    async def bind(
        self, lanes: Sequence[Lane], arrived: Callable[[Offer], None], lost: Callable[[], None]
    ) -> None:
        self._arrived = arrived

    async def take(self, lane: Lane, count: int, taken: Taken) -> int:
        self.requests.append((lane, count))
        await self.answers.wait()
        for _ in range(self.turns[lane]):
            await asyncio.sleep(0)
        found = min(count, self.waiting[lane])
        self.waiting[lane] -= found
        for _ in range(found):
            taken(self._offer(lane))
        return found

    def expect(self, lane: Lane, count: int, expires_s: float) -> None:
        self.expected[lane] = count

    def nak(self, ack_subject: str, delay_s: float = 0.0) -> None:
        queue, priority = ack_subject.split(".")
        self.returned.append(Lane(queue, priority))  # type: ignore[arg-type] # as `_offer` wrote it
        self.waiting[self.returned[-1]] += 1

    def come(self, lane: Lane) -> None:
        """One more waits; it comes by itself where that was asked for."""
        if self.expected[lane]:
            self.expected[lane] -= 1
            self._arrived(self._offer(lane))
        else:
            self.waiting[lane] += 1

    def _offer(self, lane: Lane) -> Offer:
        self._seq += 1
        ack = f"{lane.queue}.{lane.priority}"
        return Offer(lane, f"t{self._seq}", self._seq, 0, b"", 1, ack)


class World:
    """A feeder at work on a pool that has workers without processes."""

    def __init__(self, slots: int, reserve: int, running_max: int | None) -> None:
        self.lanes: Any = Lanes()
        options = PoolOptions(size=slots, reserve_high=reserve)
        self.pool = WorkerPool(options, system=System(), events=Happenings())
        self.grow(slots)
        self.running: list[tuple[Lane, Slot]] = []
        self.feeder = Feeder(
            self.lanes,
            self.pool,
            {"default": QueueShare(running_max=running_max)},
            start=lambda offer, slot: self.running.append((offer.lane, slot)),
            adopt=lambda _: False,
            clock=System().clock,
        )

    def grow(self, count: int) -> None:
        workers: dict[str, Any] = self.pool._workers
        for _ in range(count):
            seat = Seat(f"w{len(workers)}")
            workers[seat.worker_id] = seat
        self.pool.note_free()

    def slot(self, lane: Lane) -> Slot:
        return next(slot for each, slot in self.running if each == lane)

    def finish(self, lane: Lane) -> None:
        one = next(each for each in self.running if each[0] == lane)
        self.running.remove(one)
        one[1].release()

    async def counts(self) -> tuple[int, int, int]:
        """How many run when the feeder has nothing more to do: of high, normal and low."""
        for _ in range(50):
            await asyncio.sleep(0)
        runs = Counter(lane for lane, _ in self.running)
        return runs[HIGH], runs[NORMAL], runs[LOW]


@asynccontextmanager
async def feeding(
    slots: int, reserve: int, running_max: int | None = None, **waiting: int
) -> AsyncIterator[World]:
    world = World(slots, reserve, running_max)
    for priority in PRIORITIES:
        world.lanes.waiting[Lane("default", priority)] = waiting.get(priority, 0)
    await world.feeder.bind()
    running = asyncio.ensure_future(world.feeder.run())
    try:
        yield world
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_without_a_reserve_whatever_waits_gets_every_slot() -> None:
    async with feeding(3, 0, low=5) as world:
        assert await world.counts() == (0, 0, 3)


async def test_low_gets_no_slot_that_is_reserved_and_high_starts_at_once() -> None:
    async with feeding(3, 1, low=5) as world:
        assert await world.counts() == (0, 0, 2)
        world.lanes.come(HIGH)
        assert await world.counts() == (1, 0, 2)
        world.lanes.come(HIGH)
        assert await world.counts() == (1, 0, 2)
        world.finish(LOW)
        # High is asked first, for all that is free.
        assert await world.counts() == (2, 0, 1)


async def test_high_that_runs_uses_up_the_reserve_first() -> None:
    async with feeding(3, 1, high=1, low=5) as world:
        assert await world.counts() == (1, 0, 2)
        world.finish(HIGH)
        assert await world.counts() == (0, 0, 2)
        world.finish(LOW)
        assert await world.counts() == (0, 0, 2)


async def test_high_may_have_every_slot() -> None:
    async with feeding(3, 1, high=5, normal=5) as world:
        high, normal, _ = await world.counts()
        # One start in eight is normal's.
        assert high + normal == 3
        assert high >= 2


async def test_what_comes_by_itself_and_does_not_fit_goes_back_and_is_asked_for_later() -> None:
    async with feeding(2, 1) as world:
        await world.counts()
        assert world.lanes.expected == {HIGH: 2, NORMAL: 1, LOW: 1}
        world.lanes.come(LOW)
        world.lanes.come(NORMAL)
        assert await world.counts() == (0, 0, 1)
        assert world.lanes.returned == [NORMAL]
        assert [offer.lane for offer in world.feeder.bounced] == [NORMAL]
        world.finish(LOW)
        assert await world.counts() == (0, 1, 0)


async def test_while_only_reserved_slots_are_free_nobody_is_asked_again_and_again() -> None:
    async with feeding(2, 1, low=9) as world:
        assert await world.counts() == (0, 0, 1)
        asked = len(world.lanes.requests)
        await world.counts()
        assert len(world.lanes.requests) == asked


async def test_a_slot_that_high_has_lent_is_reserved_again() -> None:
    """Else its children, high too, would wait behind the low tasks that took it."""
    async with feeding(2, 1, high=1, low=9) as world:
        assert await world.counts() == (1, 0, 1)
        world.slot(HIGH).lend()
        assert await world.counts() == (1, 0, 1)
        world.lanes.come(HIGH)
        assert await world.counts() == (2, 0, 1)
        world.slot(HIGH).retake()
        assert world.pool.reserve.used == 2
        world.finish(HIGH)
        world.finish(HIGH)
        assert world.pool.reserve.used == 0
        assert await world.counts() == (0, 0, 1)


async def test_a_slot_that_low_has_lent_is_for_any() -> None:
    async with feeding(2, 1, low=9) as world:
        assert await world.counts() == (0, 0, 1)
        world.slot(LOW).lend()
        assert await world.counts() == (0, 0, 2)
        assert world.pool.free_count == 1


async def test_low_that_goes_on_after_it_has_lent_takes_no_reserved_slot() -> None:
    async with feeding(2, 1, low=2) as world:
        await world.counts()
        first = world.slot(LOW)
        first.lend()
        assert await world.counts() == (0, 0, 2)
        first.retake()
        assert world.pool.free_count == 1
        world.lanes.come(HIGH)
        assert await world.counts() == (1, 0, 2)
        # It may lend and go on as often as it likes, and gets the next slot that is free for it.
        first.lend()
        first.retake()
        world.lanes.come(LOW)
        second = world.running[1][1]
        second.release()
        world.running.pop(1)
        assert await world.counts() == (1, 0, 1)
        first.release()
        assert await world.counts() == (1, 0, 2)
        first.release()
        world.running.pop(0)
        world.finish(HIGH)
        assert world.pool.free_count == 1
        world.finish(LOW)
        assert world.pool.free_count == 2
        workers = world.pool.workers
        assert [(each.slots_held, each.slots_lent) for each in workers] == [(0, 0)] * 2


async def test_what_ends_while_it_goes_on_without_a_slot_gets_none() -> None:
    async with feeding(2, 1, low=2) as world:
        await world.counts()
        first = world.slot(LOW)
        first.lend()
        await world.counts()
        first.retake()
        first.release()
        assert world.pool.free_count == 1
        world.running[1][1].release()
        assert world.pool.free_count == 2


async def test_low_gets_its_slot_back_where_one_is_free_that_is_not_reserved() -> None:
    async with feeding(3, 1, low=1) as world:
        await world.counts()
        slot = world.slot(LOW)
        slot.lend()
        assert world.pool.free_count == 3
        slot.retake()
        assert world.pool.free_count == 2
        slot.lend()
        slot.release()
        assert world.pool.free_count == 3


async def test_without_a_reserve_a_slot_is_always_taken_back() -> None:
    async with feeding(1, 0, low=2) as world:
        await world.counts()
        first = world.slot(LOW)
        first.lend()
        assert await world.counts() == (0, 0, 2)
        first.retake()
        [worker] = world.pool.workers
        assert (worker.slots_held, worker.slots_lent) == (2, 0)


async def test_workers_that_come_are_for_others_too() -> None:
    async with feeding(1, 2, low=9) as world:
        assert await world.counts() == (0, 0, 0)
        world.grow(1)
        assert await world.counts() == (0, 0, 0)
        world.grow(2)
        assert await world.counts() == (0, 0, 2)


async def test_a_lane_that_flows_is_asked_for_more_before_it_has_answered() -> None:
    """Slots that come free would wait for the answer to a request of others, and stand idle."""
    async with feeding(8, 0, normal=99) as world:
        assert await world.counts() == (0, 8, 0)
        world.lanes.answers.clear()
        world.lanes.requests.clear()
        for _ in range(4):
            world.finish(NORMAL)
            await world.counts()
        # Each time as much again as is on its way, not a request for each slot.
        assert world.lanes.requests == [(NORMAL, 1), (NORMAL, 1), (NORMAL, 2)]
        world.lanes.answers.set()
        assert await world.counts() == (0, 8, 0)
        assert world.lanes.returned == []


async def test_what_is_on_its_way_counts_for_a_queues_limit() -> None:
    async with feeding(8, 0, running_max=4, normal=99) as world:
        assert await world.counts() == (0, 4, 0)
        world.lanes.answers.clear()
        for _ in range(2):
            world.finish(NORMAL)
            await world.counts()
        world.lanes.answers.set()
        assert await world.counts() == (0, 4, 0)
        assert world.lanes.returned == []


async def test_a_lane_that_had_less_than_was_asked_for_flows_no_more() -> None:
    async with feeding(4, 0, normal=5) as world:
        assert await world.counts() == (0, 4, 0)
        world.finish(NORMAL)
        world.finish(NORMAL)
        assert await world.counts() == (0, 3, 0)
        assert world.lanes.expected == {HIGH: 4, NORMAL: 1, LOW: 1}


async def test_lanes_that_answer_late_are_not_overtaken_by_all_that_flows() -> None:
    """Where several priorities wait, what is owed to one is there before another is asked for more."""
    async with feeding(4, 0, high=200, normal=200, low=200) as world:
        world.lanes.turns[LOW] = world.lanes.turns[NORMAL] = 100
        order: list[Lane] = []
        while len(order) < 200:
            await asyncio.sleep(0)
            while world.running:
                order.append(world.running[0][0])
                world.finish(order[-1])
    for begin in range(len(order) - 20):
        assert {HIGH, NORMAL, LOW} <= set(order[begin : begin + 20])


@pytest.mark.parametrize("priority", PRIORITIES)
@given(count=st.integers(0, 9), used=st.integers(0, 12), free=st.integers(0, 12))
def test_what_is_free_for_others_is_what_the_reserve_leaves(
    priority: Priority, count: int, used: int, free: int
) -> None:
    reserve = Reserve(count)
    reserve.used = used
    kept = 0 if priority == "high" else max(0, count - used)
    assert reserve.free_for(priority, free) == max(0, free - kept)
