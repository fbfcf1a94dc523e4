"""Loops that run while a block runs, and waiting that heeds a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `loops` while the block runs and cancels them at its end.

    The block's own error leaves unchanged, not wrapped in a group. A loop that fails cancels the block, and
    its error leaves instead.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop) for loop in loops]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def first_of(*events: asyncio.Event) -> asyncio.Event:
    """Waits until one of `events` is set and answers it, the first of those that are."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return next(event for event in events if event.is_set())


async def heeding_cancel(awaitable: Awaitable[T]) -> T:
    """The awaitable's result, unless this task is cancelled before the result has come.

    `asyncio.wait_for`, on which nats-py's requests stand, loses a cancel that comes together with the answer
    (Python 3.11; whoever waits for the cancelled task then waits for ever).
    """
    task = asyncio.current_task()
    assert task is not None
    count = task.cancelling()
    result = await awaitable
    if task.cancelling() > count:
        raise asyncio.CancelledError
    return result


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    # The first is what made the others end; a group holds no cancellations.
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
