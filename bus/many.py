"""Doing the same to many things at once, over one connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, TypeVar

IN_FLIGHT_MAX: Final = 500

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def each_of(
    items: Iterable[Item],
    act: Callable[[Item], Awaitable[Answer]],
    *,
    in_flight_max: int = IN_FLIGHT_MAX,
) -> AsyncIterator[tuple[Item, Answer]]:
    """Acts on every item, up to `in_flight_max` at once, and yields the answers in the order of the items.

    Not atomic: when one raises or the caller leaves early, later ones may have been acted on as well.
    """
    window: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
    try:
        for item in items:
            if len(window) >= in_flight_max:
                first, answer = window.popleft()
                yield first, await answer
            window.append((item, asyncio.ensure_future(act(item))))
        while window:
            first, answer = window.popleft()
            yield first, await answer
    finally:
        for _, answer in window:
            answer.cancel()
        await asyncio.gather(*(answer for _, answer in window), return_exceptions=True)
