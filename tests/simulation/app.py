"""What tasks do in a run: their arguments say it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fleetlog.agents.face import Agent, Context, NeedInput, PermanentError, Retry
from fleetlog.bus.call import call
from fleetlog.bus.fan_out import FanOut

agent = Agent()


@agent.task
async def work(ctx: Context, ms: int = 0, fails: int = 0, how: str = "error") -> int | Retry:
    """Takes its time; its first attempts fail."""
    await asyncio.sleep(ms / 1000)
    if ctx.attempt > fails:
        return ms
    match how:
        case "retry":
            return Retry(after=0.3, counts=ms != 1)
        case "permanent":
            raise PermanentError("useless")
        case "ask":
            raise NeedInput("which?")
        case _:
            raise RuntimeError("no")


@agent.task
async def split(ms: int, count: int, policy: str = "settled", depth: int = 0) -> FanOut:
    """Fans out, and its members may again; whoever asks it to end is not heard."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(ms / 1000)
    members = [
        call("split", ms=ms, count=2, policy=policy, depth=depth - 1)
        if depth and not number
        else call("work", ms=ms * number, fails=number % 3)
        for number in range(count)
    ]
    return FanOut(members, then=call("join"), policy=policy)


@agent.task
async def join(ctx: Context) -> int:
    """A continuation."""
    return len(list(ctx.children))


@agent.task
async def gather(ctx: Context, ms: int, count: int) -> int:
    """Waits for tasks of its own."""
    return len(await ctx.gather([call("work", ms=ms) for _ in range(count)]))
