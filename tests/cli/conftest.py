"""One real fleet for all tests of the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import CommandLine

HANDLERS = """
import asyncio
from pathlib import Path
from fleetlog import Agent, Context, PermanentError

agent = Agent()

@agent.task
async def add(a: int, b: int = 1) -> int:
    return a + b

@agent.task
async def greet(name: str) -> str:
    print("greeting", name)
    return f"hello {name}"

@agent.task
async def quiet() -> None: ...

@agent.task
async def boom(text: str = "boom") -> None:
    raise PermanentError(text)

@agent.task
async def flaky(ctx: Context) -> int:
    print("attempt", ctx.attempt)
    if ctx.attempt == 1:
        raise RuntimeError("not yet")
    return ctx.attempt

@agent.task
async def until(path: str) -> str:
    print("waiting", flush=True)
    while not Path(path).exists():
        await asyncio.sleep(0.02)
    print("seen", flush=True)
    return "seen"
"""


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A whole fleet with two workers, for all tests of this folder."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "shown_handlers.py").write_text(HANDLERS)
    cli = CommandLine(folder / "data")
    with (folder / "up.log").open("wb") as log:
        up = cli.start(
            *("up", "--workers", "2", "--app", "shown_handlers:agent"),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        ready = cli.run("status", "--wait", "60s")
        assert ready.code == 0, f"{ready.err}\n{(folder / 'up.log').read_text()}"
        yield cli
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0


@pytest.fixture
def cli(shared_fleet: CommandLine) -> CommandLine:
    """The command line of the shared fleet."""
    return shared_fleet


@pytest.fixture
def nowhere(tmp_path: Path) -> CommandLine:
    """The command line where no fleet runs."""
    return CommandLine(tmp_path / "nowhere")
