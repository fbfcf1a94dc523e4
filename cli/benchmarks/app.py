"""The handler that the benchmarks run."""

from __future__ import annotations

import asyncio

from fleetlog.agents.face import Agent

agent = Agent()


@agent.task
async def noop(n: int = 0) -> int:
    """Gives its argument back."""
    return n


@agent.task
async def nap(seconds: float) -> None:
    """Does nothing for a while."""
    await asyncio.sleep(seconds)
