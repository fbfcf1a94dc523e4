"""Takes offers for free slots: never more than can start at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from fleetlog.agents.lanes import LaneOrder, QueueShare
from fleetlog.agents.pool import WorkerPool
from fleetlog.agents.slots import Slot
from fleetlog.bus.offers import Lane, Offer, Offers
from fleetlog.bus.system import Clock
from fleetlog.schemas.subjects import PRIORITIES, Priority

WATCH_S: Final = 5.0


class _Watch:
    """A request that waits on an empty lane: while it stands, an offer comes by itself."""

    __slots__ = ("left", "until")

    def __init__(self) -> None:
        self.left = 0
        self.until = 0.0

    def stands(self, now: float) -> bool:
        return self.left > 0 and now < self.until


class Feeder:
    """Asks the lanes by priority for as many offers as there are free slots.

    Lanes found empty get a standing request each; only lanes without one are asked again. A lane that gave all
    that was asked for flows: it is asked for more before its answers are there, so that slots do not wait for
    one another's. Not so where another priority flows too: starts that overtake a late answer would be more
    than that priority is to wait for. Lanes of a queue that is paused or has all it may run, and all of them
    while the agent rests, are asked for nothing; what still arrives goes back. So does what would take a slot
    that is reserved for high tasks.

    Args:
        offers: where they come from.
        pool: where they go.
        queues: which to serve, and what part of the agent each may have.
        start: takes an offer and a slot, and owns both from then on.
        adopt: answers whether an offer belongs to an attempt that runs here already, and takes it if so.
        clock: for the standing requests.
    """

    def __init__(
        self,
        offers: Offers,
        pool: WorkerPool,
        queues: Mapping[str, QueueShare],
        *,
        start: Callable[[Offer, Slot], None],
        adopt: Callable[[Offer], bool],
        clock: Clock,
    ) -> None:
        self._offers = offers
        self._pool = pool
        self._lanes = tuple(Lane(queue, priority) for queue in queues for priority in PRIORITIES)
        self._weights = {name: share.weight for name, share in queues.items()}
        self._bases: dict[str, str] = {}
        """Of queues that are parts of others, of which."""
        self._order = self._ordered()
        self._start = start
        self._adopt = adopt
        self._clock = clock
        self._watches = {lane: _Watch() for lane in self._lanes}
        self._open = self._watches
        """Those that may be asked."""
        self._paused: frozenset[str] = frozenset()
        self._room = {
            name: share.running_max
            for name, share in queues.items()
            if share.running_max is not None
        }
        """How many attempts more each queue with a limit may have."""
        self._shut: frozenset[str] = frozenset()
        """Queues that are paused or have no room."""
        self._bounced: dict[int, Offer] = {}
        self._flowing: set[Lane] = set()
        self._asked: Counter[Lane] = Counter()
        """How many offers of each lane were asked for and may be on their way."""
        self._wake = asyncio.Event()
        pool.on_free = self._wake.set
        self._is_draining = False
        self._is_closed = False

    @property
    def queues(self) -> tuple[str, ...]:
        """All that it serves."""
        return tuple(dict.fromkeys(lane.queue for lane in self._lanes))

    def base_of(self, queue: str) -> str:
        """The queue that it is a part of; itself if it is none."""
        return self._bases.get(queue, queue)

    @property
    def is_draining(self) -> bool:
        """It starts nothing more."""
        return self._is_draining

    @property
    def is_resting(self) -> bool:
        """It takes nothing for now."""
        return self._is_closed

    @property
    def open_lanes(self) -> tuple[Lane, ...]:
        """Those from which it would take offers if slots were free."""
        return tuple(self._open)

    @property
    def bounced(self) -> tuple[Offer, ...]:
        """What had to go back for want of a slot since there was one the last time."""
        return tuple(self._bounced.values())

    async def bind(self) -> None:
        """Makes ready; call before `run`."""
        await self._offers.bind(self._lanes, self._arrived, self._lost)

    async def serve(self, queue: str, base: str) -> None:
        """Serves a part of one of its queues from now on: both have one limit, and weigh as much each.

        Raises:
            TransportError, ConfigError: see `Offers.bind`; nothing has changed.
        """
        lanes = tuple(Lane(queue, priority) for priority in PRIORITIES)
        await self._offers.bind(lanes, self._arrived, self._lost)
        self._bases[queue] = base
        self._weights[queue] = self._weights[base]
        self._lanes += lanes
        self._watches.update((lane, _Watch()) for lane in lanes)
        self._order = self._ordered()
        self._reopen()

    def drain(self) -> None:
        """Starts nothing more; what still arrives is given back."""
        self._is_draining = self._is_closed = True
        self._wake.set()

    def pause(self, queues: frozenset[str]) -> None:
        """Takes nothing more from these queues, and again from all others."""
        if queues != self._paused:
            self._paused = queues
            self._reopen()

    def rest(self, is_resting: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Takes nothing more from any queue until it is told otherwise."""
        self._is_closed = is_resting or self._is_draining
        self._reopen()

    async def run(self) -> None:
        """Feeds the pool until drained."""
        async with asyncio.TaskGroup() as asking:
            while not self._is_draining:
                await self._until_worthwhile()
                await self._sweep(asking)

    async def _until_worthwhile(self) -> None:
        """Waits until a lane may be asked for something that can start.

        While every lane has its standing request there is nothing to ask for. And while something is on its
        way, less than that is not worth a request: many small ones cost more.
        """
        while not self._is_draining:
            self._wake.clear()
            now = self._clock.monotonic()
            free = {priority: self._free(priority) for priority in PRIORITIES}
            lanes = [lane for lane in self._open if self._roomy(lane, free[lane.priority])]
            untils = [watch.until for lane in lanes if (watch := self._watches[lane]).stands(now)]
            if len(untils) < len(lanes) and free["high"] >= self._asked.total():
                return
            # Where no lane may be asked, only a change of that wakes it, as where nothing is free.
            delay_s = max(0.0, min(untils) - now) if untils else None
            try:
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _free(self, priority: Priority = "high") -> int:
        """Slots that tasks of this priority may have and that nothing is on its way to."""
        return max(0, self._pool.free_for(priority) - self._asked.total())

    def _ordered(self) -> LaneOrder:
        return LaneOrder(self._lanes, self._weights, is_asked=self._is_asked)

    async def _sweep(self, asking: asyncio.TaskGroup) -> None:
        """Asks every lane that has no standing request, in order, while something is free."""
        if self._bounced:
            self._bounced.clear()
        for lanes, most in self._order.plan(self._free()):
            for lane in lanes:
                count = min(most, self._free(lane.priority))
                if count == 0 or self._is_draining:
                    break
                if not self._is_asked(lane) or not (count := self._roomy(lane, count)):
                    continue
                self._asked[lane] += count
                if self._flows_alone(lane):
                    asking.create_task(self._ask(lane, count))
                    most -= count  # noqa: PLW2901 - what is left for the step's other lanes
                else:
                    most -= await self._ask(lane, count)  # noqa: PLW2901

    async def _ask(self, lane: Lane, count: int) -> int:
        """Places up to `count` offers of a lane; answers how many there were."""
        found = await self._offers.take(lane, count, partial(self._taken, lane))
        self._asked[lane] -= count - found
        self._wake.set()
        if found == count:
            self._flowing.add(lane)
        else:
            self._flowing.discard(lane)
        if not found and self._is_asked(lane):
            self._watch(lane)
        return found

    def _flows_alone(self, lane: Lane) -> bool:
        others = (other for other in self._flowing if other.priority != lane.priority)
        return lane in self._flowing and not any(other in self._open for other in others)

    def _taken(self, lane: Lane, offer: Offer) -> None:
        self._asked[lane] -= 1
        self._place(offer)

    def _roomy(self, lane: Lane, count: int) -> int:
        """How many of `count` offers a lane's queue may have by its own limit."""
        base = self.base_of(lane.queue)
        if base not in self._room:
            return count
        asked = sum(n for each, n in self._asked.items() if self.base_of(each.queue) == base)
        return max(0, min(count, self._room[base] - asked))

    def _is_asked(self, lane: Lane) -> bool:
        watch = self._open.get(lane)
        return watch is not None and not watch.stands(self._clock.monotonic())

    def _watch(self, lane: Lane) -> None:
        watch = self._watches[lane]
        watch.left = max(1, self._pool.free_for(lane.priority))
        if self._room:
            watch.left = min(watch.left, self._room.get(self.base_of(lane.queue), watch.left))
        watch.until = self._clock.monotonic() + WATCH_S - 0.5
        self._offers.expect(lane, watch.left, WATCH_S)

    def _reopen(self) -> None:
        self._sort_out()
        self._lost()

    def _sort_out(self) -> None:
        full = {queue for queue, room in self._room.items() if not room}
        parts = (queue for queue, base in self._bases.items() if base in full)
        self._shut = self._paused.union(full, parts)
        if self._is_closed:
            self._open = {}
        else:
            self._open = {
                lane: watch for lane, watch in self._watches.items() if lane.queue not in self._shut
            }

    def _lost(self) -> None:
        for watch in self._watches.values():
            watch.left = 0
        self._wake.set()

    def _arrived(self, offer: Offer) -> None:
        watch = self._watches[offer.lane]
        watch.left -= 1
        if not self._place(offer):
            # The lane has what we could not take: it must be asked when a slot is free.
            watch.left = 0
        self._wake.set()

    def _place(self, offer: Offer) -> bool:
        if self._adopt(offer):
            return True
        is_taken = not (self._is_closed or (self._shut and offer.lane.queue in self._shut))
        slot = self._pool.try_acquire(offer.lane.priority) if is_taken else None
        if slot is None:
            self._offers.nak(offer.ack_subject)
            if is_taken:
                self._bounced[offer.seq] = offer
            return False
        if self._room and (base := self.base_of(offer.lane.queue)) in self._room:
            self._fill(base, slot)
        self._order.note_start(offer.lane)
        self._start(offer, slot)
        return True

    def _fill(self, queue: str, slot: Slot) -> None:
        self._room[queue] -= 1
        slot.on_release(partial(self._empty, queue))
        if not self._room[queue]:
            self._sort_out()

    def _empty(self, queue: str) -> None:
        self._room[queue] += 1
        if self._room[queue] > 1:
            return
        self._sort_out()
        for lane, watch in self._watches.items():
            if self.base_of(lane.queue) == queue:
                watch.left = 0
        self._wake.set()
