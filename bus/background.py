"""Loops that run while a block runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


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


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    # The first is what made the others end; a group holds no cancellations.
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
