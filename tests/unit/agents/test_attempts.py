"""One agent that is offered a task of which it still has an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fleetlog.agents.attempts import Attempts
from fleetlog.bus.offers import Lane, Offer


class HeldUp:
    """Claims that end when they are told to, and find nothing to run."""

    def __init__(self) -> None:
        self.ends: dict[int, asyncio.Future[None]] = {}
        self.begun = asyncio.Event()

    async def claim(self, offer: Offer, _worker_id: str) -> None:
        self.ends[offer.seq] = asyncio.get_running_loop().create_future()
        self.begun.set()
        await self.ends[offer.seq]


class FreeSlot:
    worker_id = "w"

    def release(self) -> None:
        pass


def offer(seq: int, ack_subject: str = "ack") -> Offer:
    return Offer(Lane("default", "normal"), "t1", seq, 0, b"", 1, ack_subject)


class Held:
    def __init__(self) -> None:
        self.claims = HeldUp()
        nothing: Any = None
        claims: Any = self.claims
        fleet: Any = _Fleet()
        self.attempts = Attempts(fleet, claims, nothing, nothing, stop_s=1.0)
        self._running: dict[int, asyncio.Task[None]] = {}

    async def start(self, seq: int) -> None:
        slot: Any = FreeSlot()
        self._running[seq] = asyncio.create_task(self.attempts.run(offer(seq), slot))
        await self.claims.begun.wait()
        self.claims.begun.clear()

    async def end(self, seq: int) -> None:
        self.claims.ends[seq].set_result(None)
        await self._running[seq]


class _Fleet:
    """What attempts are made of, as far as none runs."""

    def __getattr__(self, _name: str) -> Any:
        return self


@asynccontextmanager
async def two(first: int, second: int) -> AsyncIterator[Held]:
    held = Held()
    await held.start(first)
    await held.start(second)
    yield held


async def test_the_end_of_an_attempt_leaves_the_next_one_of_its_task_alone() -> None:
    async with two(1, 4) as held:
        await held.end(1)
        attempt = held.attempts.find("t1")
        assert attempt is not None
        assert attempt.offer.seq == 4
        assert held.attempts.adopt(offer(4, "ack again"))
        assert attempt.ack_subject == "ack again"
        await held.end(4)
    assert held.attempts.live == ()
    assert held.attempts.find("t1") is None


async def test_a_stale_offer_does_not_hide_the_attempt_that_runs() -> None:
    async with two(4, 1) as held:
        attempt = held.attempts.find("t1")
        assert attempt is not None
        assert attempt.offer.seq == 4
        await held.end(1)
        assert held.attempts.find("t1") is attempt
        assert held.attempts.live == (attempt,)
        await held.end(4)


async def test_it_is_idle_only_when_both_have_ended() -> None:
    async with two(1, 4) as held:
        waiting = asyncio.create_task(held.attempts.wait_idle())
        await held.end(4)
        await asyncio.sleep(0)
        assert not waiting.done()
        await held.end(1)
        await waiting
