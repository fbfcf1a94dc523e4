"""The executor `command`: a program of any language, run in a process group of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.executors.attempt import Attempt, Ended
from fleetlog.agents.executors.exec_v1 import (
    ArtifactLine,
    HeartbeatLine,
    LogLine,
    Meter,
    ProgressLine,
    ResultLine,
    UsageLine,
    document,
    is_cut_result,
    read_line,
    read_outcome,
    too_large,
)
from fleetlog.agents.executors.lines import JSON_CHARS_MAX, Tail
from fleetlog.agents.executors.output import Stream
from fleetlog.agents.executors.pipes import OutputPipe
from fleetlog.agents.frames import Failed, Run, Stopped, Succeeded, clip
from fleetlog.agents.groups import end_groups, kill_marked, signal_group
from fleetlog.schemas.objects import INLINE_MAX_BYTES

_PIPES_S: Final = 1.0
_LEFTOVERS_S: Final = 1.0
_STDERR_CHARS_MAX: Final = 4 * 1024
_TRY_AGAIN: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_ATTEMPT_MARK: Final = "FLEETLOG_ATTEMPT_MARK"

Variable = Annotated[str, Meta(pattern="^[^=\\x00]+$")]
Text = Annotated[str, Meta(pattern="^[^\\x00]*$")]


class CommandArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of a command task."""

    argv: Annotated[list[Text], Meta(min_length=1)]
    """The program and its arguments; no shell reads them."""
    stdin: msgspec.Raw = msgspec.Raw(b"null")
    """The `payload` of the document on its stdin."""
    env: dict[Variable, Text] | None = None
    """Added to the environment."""
    cwd: Text | None = None
    """Where it runs; the agent's folder if not given."""


_decoder: Final = msgspec.json.Decoder(CommandArgs)


class CommandExecutor:
    """Runs commands.

    Args:
        environ: what commands see of the agent's environment, already picked.
        mark: unique to this worker; finds processes that left their group.
        stop_s: from SIGTERM to SIGKILL.
    """

    def __init__(self, environ: Mapping[str, str], *, mark: str, stop_s: float) -> None:
        self._environ = environ
        self._mark = mark
        self._stop_s = stop_s

    async def run(self, attempt: Attempt) -> Ended:
        """See `Executor`."""
        if attempt.is_stopping:
            return Ended(Stopped())
        try:
            args = _decoder.decode(attempt.run.args)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            text = f"the arguments do not fit a command: {error}"
            return Ended(Failed("invalid_input", clip(text), is_permanent=True))
        workdir = _workdir(args)
        if workdir is None:
            text = f"the command's folder {args.cwd} is not there: give another cwd"
            return Ended(Failed("permanent", clip(text), is_permanent=True))
        environ = self._environment(attempt.run, args, workdir)
        async with AsyncExitStack() as stack:
            try:
                pipes = [await stack.enter_async_context(OutputPipe()) for _ in range(2)]
                process = await _start(attempt.run, args, environ, pipes)
            except OSError as error:
                return Ended(_not_started(args.argv[0], error))
            reading = _Reading(attempt, str(workdir))
            try:
                attempt.started(process.pid)
                await self._watch(attempt, process, reading, pipes)
            finally:
                signal_group(process.pid, signal.SIGKILL)
        if attempt.is_stopping:
            kill_marked(f"{_ATTEMPT_MARK}={environ[_ATTEMPT_MARK]}")
        assert process.returncode is not None
        return reading.ended(process.returncode)

    async def _watch(
        self, attempt: Attempt, process: Process, reading: _Reading, pipes: Sequence[OutputPipe]
    ) -> None:
        """Until the process has ended, its output is read and its group is gone."""
        takers = (reading.take_stdout, reading.take_stderr)
        async with asyncio.TaskGroup() as tasks:
            pumps = [
                tasks.create_task(pipe.pump(take, attempt.output.drain))
                for pipe, take in zip(pipes, takers, strict=True)
            ]
            attempt.on_stop(
                lambda: tasks.create_task(end_groups([process.pid], attempt.clock, self._stop_s))
            )
            await process.wait()
            # Children that it left in the background may hold the pipes: they get a moment, not for ever.
            await asyncio.wait(pumps, timeout=_PIPES_S)
            attempt.on_stop(None)
            await end_groups([process.pid], attempt.clock, _LEFTOVERS_S)
            while (await asyncio.wait(pumps, timeout=_PIPES_S))[1]:
                if not any(pipe.is_held_up for pipe in pipes):
                    break
            for pipe in pipes:
                pipe.close()

    def _environment(self, run: Run, args: CommandArgs, workdir: Path) -> dict[str, str]:
        environ = {
            **self._environ,
            **(args.env or {}),
            "FLEETLOG_TASK_ID": run.task_id,
            "FLEETLOG_ATTEMPT": str(run.attempt),
            "FLEETLOG_FENCE": str(run.fence),
            "FLEETLOG_WORKDIR": str(workdir),
            "FLEETLOG_WORKER_MARK": self._mark,
            _ATTEMPT_MARK: f"{self._mark}.{run.run_id}",
        }
        if run.deadline is not None:
            environ["FLEETLOG_DEADLINE"] = run.deadline.isoformat()
        if run.traceparent is not None:
            environ["TRACEPARENT"] = run.traceparent
        return environ


class _Reading:
    """What a command has said so far."""

    def __init__(self, attempt: Attempt, workdir: str) -> None:
        self._attempt = attempt
        self._workdir = workdir
        self._meter = Meter()
        self._result: ResultLine | None = None
        self._is_result_cut = False
        self._stdout = Tail(INLINE_MAX_BYTES)
        self._stderr = Tail(_STDERR_CHARS_MAX)

    def take_stderr(self, text: str) -> None:
        """A line of stderr, or a piece of one."""
        self._stderr.add(text)
        self._write("stderr", text)

    def take_stdout(self, text: str) -> None:
        """A line of stdout, or a piece of one."""
        match read_line(text):
            case None:
                self._is_result_cut |= is_cut_result(text)
                self._stdout.add(text)
                self._write("stdout", text)
            case LogLine(msg, level):
                self._write("log", f"{level}: {msg}\n")
            case ProgressLine(pct, msg):
                self._write("progress", msg, pct)
            case UsageLine() as line:
                self._meter.add(line)
                self._attempt.alive()
            case HeartbeatLine():
                self._attempt.alive()
            case ArtifactLine(path, name, media_type):
                self._attempt.leave(self._workdir, path, name, media_type)
                self._attempt.alive()
            case ResultLine() as line:
                self._result = line

    def ended(self, exit_code: int) -> Ended:
        """What it comes to. A command that was stopped has no result, unless it said one."""
        outcome = read_outcome(
            exit_code,
            self._result,
            stdout=self._stdout.text(),
            stderr=self._stderr.text(),
            now=self._attempt.clock.now(),
        )
        if self._is_result_cut and isinstance(outcome, Succeeded):
            outcome = too_large(f"more than {JSON_CHARS_MAX}")
        if self._attempt.is_stopping and (
            self._result is None or not isinstance(outcome, Succeeded)
        ):
            outcome = Stopped()
        return Ended(outcome, exit_code, self._meter.total())

    def _write(self, stream: Stream, text: str, pct: float | None = None) -> None:
        self._attempt.output.write(stream, text, pct)


def _workdir(args: CommandArgs) -> Path | None:
    """Where the command runs; None if it is not there."""
    folder = Path(args.cwd or ".").absolute()
    return folder if folder.is_dir() else None


async def _start(
    run: Run, args: CommandArgs, environ: Mapping[str, str], pipes: Sequence[OutputPipe]
) -> Process:
    workdir = environ["FLEETLOG_WORKDIR"]
    # A nameless file for stdin: unlike a pipe it needs nobody to write while the command reads.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(document(run, args.stdin, workdir))
        stdin.seek(0)
        process = await asyncio.create_subprocess_exec(
            *args.argv,
            env=environ,
            cwd=workdir,
            stdin=stdin,
            stdout=pipes[0].write_fd,
            stderr=pipes[1].write_fd,
            start_new_session=True,
        )
    for pipe in pipes:
        pipe.close_write_end()
    return process


def _not_started(program: str, error: OSError) -> Failed:
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
