"""Doing the same to many things at once."""

from __future__ import annotations

import asyncio

import pytest

from fleetlog.bus.many import each_of


async def test_answers_come_in_order_and_no_more_than_allowed_are_under_way() -> None:
    under_way: set[int] = set()
    most = 0
    doors = {n: asyncio.Event() for n in range(7)}

    async def act(n: int) -> int:
        nonlocal most
        under_way.add(n)
        most = max(most, len(under_way))
        if n % 3 == 0:
            # It ends only when a later one has begun: they do go at once.
            await doors[min(n + 1, 6)].wait() if n < 6 else None
        doors[n].set()
        under_way.discard(n)
        return n * n

    async with asyncio.timeout(10):
        answers = [pair async for pair in each_of(range(7), act, in_flight_max=3)]
    assert answers == [(n, n * n) for n in range(7)]
    assert 1 < most <= 3


async def test_an_error_leaves_nothing_under_way() -> None:
    ended: list[int] = []

    async def act(n: int) -> int:
        if n == 0:
            raise ValueError("no")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)
        return n

    with pytest.raises(ValueError, match="no"):
        async for _ in each_of(range(3), act):
            pass
    assert ended in ([], [1, 2])  # whoever had begun
