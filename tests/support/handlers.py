"""Handlers for tests; workers load it as `support.handlers:agent`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from fleetlog.agents.face import Agent, Context, NeedInput, PermanentError, Retry
from fleetlog.bus.call import call
from fleetlog.bus.fan_out import FanOut

agent = Agent()


@agent.task
async def noop(n: int = 0) -> int:
    return n


@agent.task
def environment() -> list[str]:
    """The names of what this process sees."""
    return sorted(os.environ)


@agent.task
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@agent.task
def nap_in_thread(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


@agent.task
def fail(message: str = "no") -> None:
    raise RuntimeError(message)


@agent.task
def fail_for_good() -> None:
    raise PermanentError("useless")


@agent.task
def fail_until(ctx: Context, attempt: int) -> str:
    if ctx.attempt < attempt:
        raise NotYetError(ctx.attempt)
    return f"attempt {ctx.attempt}"


class NotYetError(Exception):
    pass


@agent.task
async def ask(ctx: Context, choices: list[str], times: int = 1) -> list[object]:
    """Asks by raising, then by returning."""
    number = len(ctx.answers) + 1
    if number == 1:
        raise NeedInput("question 1", choices=choices)
    if number <= times:
        return NeedInput(f"question {number}")  # type: ignore[return-value] # an answer of another kind
    return [ctx.answer, *((each.question, each.answer, each.actor) for each in ctx.answers)]


@agent.task
def ask_nothing(choices: list[str]) -> None:
    raise NeedInput(" ", choices=choices)


@agent.task
def ask_once_and_fail_once(ctx: Context) -> str:
    if not ctx.answers:
        raise NeedInput("go on?")
    if ctx.attempt == 2:
        raise RuntimeError("not yet")
    return f"{ctx.answer} {ctx.attempt}"


@agent.task
def retry_soon(ctx: Context) -> object:
    return Retry(after="50ms", reason="not yet") if ctx.attempt == 1 else ctx.attempt


@agent.task
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@agent.task
async def mark(ctx: Context, folder: str, seconds: float = 0.0) -> str:
    """Leaves a file for each execution, named by task, attempt and process."""
    path = Path(folder) / f"{ctx.task_id}.{ctx.attempt}.{os.getpid()}"
    path.touch()
    await asyncio.sleep(seconds)
    return path.name


@agent.task
async def say(ctx: Context, text: str, seconds: float = 0.0) -> None:
    print(text)
    ctx.log(f"log: {text}")
    await asyncio.sleep(seconds)


@agent.task
def wait_for_file(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return "ours"


@agent.task
async def measure(text: str) -> int:
    return len(text)


@agent.task
async def fill(size: int) -> str:
    return "x" * size


@agent.task
async def leave(ctx: Context, folder: str, text: str, fails: bool = False) -> None:
    path = Path(folder) / "report.html"
    path.write_text(text)
    ctx.artifact(path)
    ctx.artifact(str(path), name="the same")
    if fails and ctx.attempt == 1:
        raise RuntimeError("after all")


@agent.task
def leave_from_thread(ctx: Context, folder: str) -> None:
    path = Path(folder) / "notes"
    path.write_text("plain")
    ctx.artifact(path)
    ctx.artifact(Path(folder) / "nowhere")


@agent.task
async def add(a: int, b: int) -> int:
    return a + b


@agent.task
def spread_large(chars: int) -> FanOut:
    return FanOut([call(measure, text="x" * chars)], then=call(gathered))


@agent.task
def gathered(ctx: Context) -> list[object]:
    """What a continuation sees: state, result and arguments of each member."""
    return [[child.state, child.result, child.args] for child in ctx.children]


@agent.task
def split(depth: int, width: int = 2, then: bool = True, fails: bool = False) -> object:
    """Fans out, again and again, down to `depth`."""
    if fails and depth == 0:
        raise PermanentError("at the bottom")
    if depth == 0:
        return 1
    members = [call(split, depth=depth - 1, width=width, fails=fails) for _ in range(width)]
    return FanOut(members, then=call(total) if then else None)


@agent.task
def total(ctx: Context) -> int:
    return sum(child.result or 0 for child in ctx.children)


@agent.task
async def sum_up(ctx: Context, depth: int, width: int = 2) -> int:
    """Gathers, again and again, down to `depth`."""
    if depth == 0:
        return 1
    members = [call(sum_up, depth=depth - 1, width=width) for _ in range(width)]
    return sum(child.result for child in await ctx.gather(members))


@agent.task
async def gather_twice(ctx: Context, folder: str) -> list[object]:
    """Dies once between two gathers; the next attempt finds what the first one made."""
    first = await ctx.gather([call(mark, folder=folder)])
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    second = await ctx.gather([call(fail_for_good)])
    return [first[0].result, second[0].error_class]


@agent.task
async def gather_all(ctx: Context) -> None:
    await ctx.gather([call(fail_for_good)], policy="all")


@agent.task
async def gather_naps(ctx: Context) -> None:
    await ctx.gather([call(nap, seconds=60.0)])
