"""The real command line as a process."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.settings import ENVIRONMENT
from support.forking import ForkServer
from support.measuring import is_first, measured_at_first

HANDLERS = """
import asyncio
from pathlib import Path
from fleetlog import Agent, Context, FanOut, PermanentError, call

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

@agent.task
def outcomes(ctx: Context) -> list[list[object]]:
    return [[child.state, child.result] for child in ctx.children]

@agent.task
async def gatherer(ctx: Context, path: str) -> int:
    return len(await ctx.gather([call(quiet), call(until, path=path)]))

@agent.task
def spread(paths: list[str]) -> FanOut:
    return FanOut([call(until, path=path) for path in paths], then=call(outcomes))
"""


TIMEOUT_S = 60
_forks = ForkServer()


class Ran(msgspec.Struct, frozen=True):
    """One command line that has ended."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """stdout as the one JSON value that it must be."""
        return json.loads(self.out)


class CommandLine:
    """`fleetlog` as a process, on one data folder."""

    def __init__(self, data: Path, **environ: str) -> None:
        self.data = data
        self.environ = environ

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "fleetlog.cli", *args]

    def env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        mine = {name: text for name, text in os.environ.items() if not name.startswith("FLEETLOG_")}
        mine |= {ENVIRONMENT["data"]: str(self.data), "COLUMNS": "200"}
        return mine | self.environ | dict(extra or {})

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ran:
        """Runs it: the first of each command as a process that is started, others as one that is forked."""
        environ = self.env(env)
        words, ended = [arg for arg in args[:2] if arg.isalpha()], None
        if not env and ("--help" in args or not is_first(*words)):
            options = sorted({arg.partition("=")[0] for arg in args if arg.startswith("--")})
            environ = measured_at_first(environ, *words, "with", *options)
            ended = _forks.run(args, environ, stdin, TIMEOUT_S)
        if ended is None:
            ended = subprocess.run(
                self.argv(*args),
                input=stdin,
                capture_output=True,
                env=environ,
                timeout=TIMEOUT_S,
                check=False,
            )
        return Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def __call__(self, *args: str, stdin: bytes = b"") -> Ran:
        """Runs it and expects success."""
        ran = self.run(*args, stdin=stdin)
        assert ran.code == 0, ran.err
        return ran

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.env()}
        return subprocess.Popen(self.argv(*args), **(defaults | options))

    def on_terminal(self, *args: str) -> Ran:
        """Runs it with a terminal for stdout and stderr."""
        ours, theirs = pty.openpty()
        process = self.start(*args, stdout=theirs, stderr=theirs, stdin=theirs)
        os.close(theirs)
        seen = b""
        while piece := _read(ours):
            seen += piece
        os.close(ours)
        return Ran(process.wait(60), seen.decode(), "")


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux says so when the other side has been closed
        return b""


def address(target: Target) -> str:
    """A server's address with user and password in it."""
    return target.url.replace("://", f"://{target.user}:{target.password}@")
