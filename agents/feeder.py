"""Takes offers for free slots: never more than can start at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from fleetlog.agents.lanes import LaneOrder
from fleetlog.agents.pool import Slot, WorkerPool
from fleetlog.bus.offers import Lane, Offer, Offers
from fleetlog.bus.system import Clock

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

    Lanes found empty get a standing request each; only lanes without one are asked again. Lanes of a paused
    queue, and all of them while the agent rests, are asked for nothing; what still arrives goes back.

    Args:
        offers: where they come from.
        pool: where they go.
        lanes: which to serve.
        start: takes an offer and a slot, and owns both from then on.
        adopt: answers whether an offer belongs to an attempt that runs here already, and takes it if so.
        clock: for the standing requests.
    """

    def __init__(
        self,
        offers: Offers,
        pool: WorkerPool,
        lanes: Sequence[Lane],
        *,
        start: Callable[[Offer, Slot], None],
        adopt: Callable[[Offer], bool],
        clock: Clock,
    ) -> None:
        self._offers = offers
        self._pool = pool
        self._order = LaneOrder(lanes)
        self._lanes = tuple(lanes)
        self._start = start
        self._adopt = adopt
        self._clock = clock
        self._watches = {lane: _Watch() for lane in lanes}
        self._open = self._watches
        """Those that may be asked."""
        self._paused: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._is_draining = False
        self._is_closed = False

    async def bind(self) -> None:
        """Makes ready; call before `run`."""
        await self._offers.bind(self._lanes, self._arrived, self._lost)

    def drain(self) -> None:
        """Starts nothing more; what still arrives is given back."""
        self._is_draining = self._is_closed = True
        self._wake.set()

    def pause(self, queues: frozenset[str]) -> None:
        """Takes nothing more from these queues, and again from all others."""
        self._paused = queues
        self._reopen()

    def rest(self, is_resting: bool) -> None:  # noqa: FBT001 - the one thing it says
        """Takes nothing more from any queue until it is told otherwise."""
        self._is_closed = is_resting or self._is_draining
        self._reopen()

    async def run(self) -> None:
        """Feeds the pool until drained."""
        while not self._is_draining:
            await self._pool.wait_free()
            await self._sweep()
            await self._wait()

    async def _sweep(self) -> None:
        """Asks every lane that has no standing request, in order, while something is free."""
        for lanes, most in self._order.plan(self._pool.free_count):
            for lane in lanes:
                count = min(most, self._pool.free_count)
                if count == 0 or self._is_draining:
                    break
                most -= await self._ask(lane, count)  # noqa: PLW2901 - what is left for the step's other lanes

    async def _ask(self, lane: Lane, count: int) -> int:
        """Places up to `count` offers of a lane; answers how many there were."""
        watch = self._open.get(lane)
        if watch is None or watch.stands(self._clock.monotonic()):
            return 0
        found = await self._offers.take(lane, count)
        for offer in found:
            self._place(offer)
        if not found and lane in self._open:
            self._watch(lane)
        return len(found)

    def _watch(self, lane: Lane) -> None:
        watch = self._watches[lane]
        watch.left = max(1, self._pool.free_count)
        watch.until = self._clock.monotonic() + WATCH_S - 0.5
        self._offers.expect(lane, watch.left, WATCH_S)

    async def _wait(self) -> None:
        """While every lane has its standing request, there is nothing to ask for."""
        while not self._is_draining and self._pool.free_count:
            now = self._clock.monotonic()
            untils = [w.until for w in self._open.values() if w.stands(now)]
            if len(untils) < len(self._open):
                return
            self._wake.clear()
            # Where no lane may be asked, only a change of that wakes it.
            delay_s = max(0.0, min(untils) - now) if untils else None
            try:
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _reopen(self) -> None:
        if self._is_closed:
            self._open = {}
        else:
            self._open = {
                lane: watch
                for lane, watch in self._watches.items()
                if lane.queue not in self._paused
            }
        self._lost()

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
        is_taken = not (self._is_closed or (self._paused and offer.lane.queue in self._paused))
        slot = self._pool.try_acquire() if is_taken else None
        if slot is None:
            self._offers.nak(offer.ack_subject)
            return False
        self._order.note_start(offer.lane)
        self._start(offer, slot)
        return True
