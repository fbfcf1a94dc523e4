"""A program in a process group of its own: started, read, stopped, and nothing of it left. For executors."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.executors.attempt import Attempt
from fleetlog.agents.executors.pipes import OutputPipe
from fleetlog.agents.frames import Failed, Run, clip
from fleetlog.agents.groups import (
    Kin,
    descendants,
    end_groups,
    kill_marked,
    signal_group,
    stop_groups,
    sweep,
)
from fleetlog.schemas.questions import answer_text

_PIPES_S: Final = 1.0
_LEFTOVERS_S: Final = 1.0
_SWEEP_S: Final = 2.0
_TRY_AGAIN: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_MARK: Final = "FLEETLOG_ATTEMPT_MARK"

Variable = Annotated[str, Meta(pattern="^[^=\\x00]+$")]
Text = Annotated[str, Meta(pattern="^[^\\x00]*$")]


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    argv: Sequence[str]
    """The program and its arguments."""
    environ: Mapping[str, str]
    """All of its environment; `attempt_environment` has what it must hold."""
    stdin: bytes
    """What it reads."""


class Program:
    """One program while it runs for an attempt.

    Args:
        attempt: stopping it stops the program.
        launch: what to start.
        stop_s: from SIGINT to SIGKILL; SIGTERM comes after two thirds of it.
    """

    def __init__(self, attempt: Attempt, launch: Launch, *, stop_s: float) -> None:
        self._attempt = attempt
        self._launch = launch
        self._stop_s = stop_s
        self._tasks = asyncio.TaskGroup()
        self._process: Process | None = None
        self._ending: asyncio.Task[None] | None = None
        self._kin: set[Kin] = set()

    async def run(
        self, take_stdout: Callable[[str], None], take_stderr: Callable[[str], None]
    ) -> int:
        """Runs it to its end; answers its exit code, negative for a signal.

        What the takers get are lines, or pieces of lines too long to hold. When this returns, nothing of it is
        left, in its group or not.

        Raises:
            OSError: it cannot be started.
        """
        async with AsyncExitStack() as stack:
            pipes = [await stack.enter_async_context(OutputPipe()) for _ in range(2)]
            process = await _start(self._launch, pipes)
            try:
                self._attempt.started(process.pid)
                await self._watch(process, pipes, (take_stdout, take_stderr))
            except BaseException:
                # The worker itself ends: there is no time for steps.
                signal_group(process.pid, signal.SIGKILL)
                kill_marked(self._mark)
                raise
        assert process.returncode is not None
        return process.returncode

    def end(self, stop_s: float | None = None) -> None:
        """Stops it, as `attempt.stop` does; the first time counts."""
        if self._process is not None and self._ending is None:
            self._ending = self._tasks.create_task(
                self._stop(self._process.pid, self._stop_s if stop_s is None else stop_s)
            )

    @property
    def _mark(self) -> str:
        return f"{_MARK}={self._launch.environ[_MARK]}"

    async def _stop(self, pid: int, stop_s: float) -> None:
        # Before the first signal: afterwards those whose parent has ended can't be told from strangers.
        self._kin |= descendants(pid)
        await stop_groups([pid], self._attempt.clock, stop_s)

    async def _watch(
        self,
        process: Process,
        pipes: Sequence[OutputPipe],
        takers: Sequence[Callable[[str], None]],
    ) -> None:
        """Until the process has ended, its output is read and nothing of it is left."""
        clock = self._attempt.clock
        async with self._tasks as tasks:
            pumps = [
                tasks.create_task(pipe.pump(take, self._attempt.output.drain))
                for pipe, take in zip(pipes, takers, strict=True)
            ]
            self._process = process
            self._attempt.on_stop(self.end)
            await process.wait()
            self._attempt.on_stop(None)
            self._process = None
            leftovers_s = _LEFTOVERS_S
            if self._ending is None:
                # Children left in the background may hold the pipes: they get a moment, not for ever.
                await asyncio.wait(pumps, timeout=_PIPES_S)
            elif not self._ending.cancel():
                leftovers_s = 0.0  # the whole group has had all of its time, and a SIGKILL
            await end_groups([process.pid], clock, leftovers_s)
            await sweep(self._mark, self._kin, clock, _SWEEP_S, oldest=process.pid)
            while (await asyncio.wait(pumps, timeout=_PIPES_S))[1]:
                if not any(pipe.is_held_up for pipe in pipes):
                    break
            for pipe in pipes:
                pipe.close()


def attempt_environment(run: Run, *, worker_mark: str, workdir: Path) -> dict[str, str]:
    """What every program of an attempt has in its environment."""
    environ = {
        "FLEETLOG_TASK_ID": run.task_id,
        "FLEETLOG_ATTEMPT": str(run.attempt),
        "FLEETLOG_FENCE": str(run.fence),
        "FLEETLOG_WORKDIR": str(workdir),
        "FLEETLOG_WORKER_MARK": worker_mark,
        _MARK: f"{worker_mark}.{run.run_id}",
    }
    if run.deadline is not None:
        environ["FLEETLOG_DEADLINE"] = run.deadline.isoformat()
    if run.children is not None:
        environ["FLEETLOG_CHILDREN"] = run.children
    if run.answers:
        # No variable can hold a zero byte; the document on stdin has the answer as it is.
        environ["FLEETLOG_ANSWER"] = answer_text(run.answers[-1]).replace("\0", "")
    if run.traceparent is not None:
        environ["TRACEPARENT"] = run.traceparent
    return environ


def existing_folder(cwd: str | None, workdir: str | None = None) -> Path | Failed:
    """Where a program shall run: `cwd`, seen from the attempt's worktree or else from the agent's folder."""
    root = Path(workdir or ".").absolute()
    folder = root / (cwd or ".")
    if not folder.is_dir():
        text = f"the command's folder {cwd} is not there: give another cwd"
        return Failed("permanent", clip(text), is_permanent=True)
    is_below = Path(cwd or ".").is_absolute() or folder.resolve().is_relative_to(root.resolve())
    if workdir is not None and not is_below:
        text = f"the command's folder {cwd} is not inside of its worktree: give another cwd"
        return Failed("permanent", clip(text), is_permanent=True)
    return folder


def not_started(program: str, error: OSError) -> Failed:
    """Why a program could not be started."""
    if error.errno in _TRY_AGAIN:
        return Failed("error", f"{program} cannot be started now: {os.strerror(error.errno or 0)}")
    match error:
        case FileNotFoundError():
            why = "there is no such program in PATH on this host, or its interpreter is missing"
        case PermissionError():
            why = "it may not be executed"
        case _:
            why = error.strerror or str(error)
    return Failed("permanent", clip(f"{program} cannot be started: {why}"), is_permanent=True)


async def _start(launch: Launch, pipes: Sequence[OutputPipe]) -> Process:
    # A nameless file for stdin: unlike a pipe it needs nobody to write while the program reads.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(launch.stdin)
        stdin.seek(0)
        process = await asyncio.create_subprocess_exec(
            *launch.argv,
            env=launch.environ,
            cwd=launch.environ["FLEETLOG_WORKDIR"],
            stdin=stdin,
            stdout=pipes[0].write_fd,
            stderr=pipes[1].write_fd,
            start_new_session=True,
        )
    for pipe in pipes:
        pipe.close_write_end()
    return process
