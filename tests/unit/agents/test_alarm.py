"""One timer rings for all, at the soonest instant, and only when asked."""

from __future__ import annotations

import asyncio

from fleetlog.agents.alarm import Alarm
from fleetlog.bus.system import SystemClock


async def test_rings_at_the_soonest_instant_whatever_the_order() -> None:
    clock, rang = SystemClock(), asyncio.Queue[float]()
    alarm = Alarm(clock, lambda: rang.put_nowait(clock.monotonic()))
    start = clock.monotonic()
    for delay_s in (60.0, 0.05, 30.0):
        alarm.by(start + delay_s)
    async with asyncio.timeout(10):
        assert await rang.get() >= start + 0.049
    assert rang.empty()


async def test_what_is_past_rings_in_the_next_turn() -> None:
    clock, rang = SystemClock(), asyncio.Event()
    Alarm(clock, rang.set).by(clock.monotonic() - 5.0)
    async with asyncio.timeout(10):
        await rang.wait()


async def test_who_rings_may_ask_again() -> None:
    clock, done = SystemClock(), asyncio.Event()
    count = 0

    def ring() -> None:
        nonlocal count
        count += 1
        if count == 3:
            done.set()
        else:
            alarm.by(clock.monotonic() + 0.001)

    alarm = Alarm(clock, ring)
    alarm.by(clock.monotonic())
    async with asyncio.timeout(10):
        await done.wait()
    assert count == 3


async def test_closed_it_is_silent_until_asked_again() -> None:
    clock, rang = SystemClock(), asyncio.Queue[None]()
    alarm = Alarm(clock, lambda: rang.put_nowait(None))
    alarm.by(clock.monotonic())
    alarm.close()
    await asyncio.sleep(0.02)
    assert rang.empty()
    alarm.by(clock.monotonic())
    async with asyncio.timeout(10):
        await rang.get()
