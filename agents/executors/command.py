"""The executor `command`: a program of any language, run in a process group of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.executors.asking import NeedInputLine
from fleetlog.agents.executors.attempt import Attempt, Ended
from fleetlog.agents.executors.branches import FanOutLine, SpawnLine, fanned_out
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
from fleetlog.agents.executors.programs import (
    Launch,
    Program,
    Text,
    Variable,
    attempt_environment,
    existing_folder,
    not_started,
)
from fleetlog.agents.frames import Asked, Deferred, Failed, Outcome, Stopped, Succeeded, clip
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.objects import INLINE_MAX_BYTES

_STDERR_CHARS_MAX: Final = 4 * 1024


class CommandArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of a command task."""

    argv: Annotated[list[Text], Meta(min_length=1)]
    """The program and its arguments; no shell reads them."""
    stdin: msgspec.Raw = msgspec.Raw(b"null")
    """The `payload` of the document on its stdin."""
    env: dict[Variable, Text] | None = None
    """Added to the environment."""
    cwd: Text | None = None
    """Where it runs, seen from its worktree or else from the agent's folder; there if not given."""


_decoder: Final = msgspec.json.Decoder(CommandArgs)


class CommandExecutor:
    """Runs commands.

    Args:
        environ: what commands see of the agent's environment, already picked.
        mark: unique to this worker; finds processes that left their group.
        stop_s: from SIGINT to SIGKILL.
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
        workdir = existing_folder(args.cwd, attempt.run.workdir)
        if isinstance(workdir, Failed):
            return Ended(workdir)
        ours = attempt_environment(attempt.run, worker_mark=self._mark, workdir=workdir)
        launch = Launch(
            argv=args.argv,
            environ={**self._environ, **(attempt.run.env or {}), **(args.env or {}), **ours},
            stdin=document(attempt.run, args.stdin, str(workdir)),
        )
        reading = _Reading(attempt, str(workdir))
        program = Program(attempt, launch, stop_s=self._stop_s)
        try:
            exit_code = await program.run(reading.take_stdout, reading.take_stderr)
        except OSError as error:
            return Ended(not_started(args.argv[0], error))
        return reading.ended(exit_code)


class _Reading:
    """What a command has said so far."""

    def __init__(self, attempt: Attempt, workdir: str) -> None:
        self._attempt = attempt
        self._workdir = workdir
        self._meter = Meter()
        self._result: ResultLine | None = None
        self._fan_out: FanOutLine | None = None
        self._question: NeedInputLine | None = None
        self._spawn_count = 0
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
            case SpawnLine() as line:
                self._spawn(line)
            case FanOutLine() as line:
                self._fan_out = line
            case NeedInputLine() as line:
                self._question = line
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
        if self._question is not None and isinstance(outcome, Succeeded | Deferred):
            outcome = self._question.asked()
        elif self._fan_out is not None and isinstance(outcome, Succeeded):
            outcome = self._fanned_out(self._fan_out)
        elif self._is_result_cut and isinstance(outcome, Succeeded):
            outcome = too_large(f"more than {JSON_CHARS_MAX}")
        has_said_one = self._result is not None or self._fan_out is not None
        is_end = isinstance(outcome, Asked) or (has_said_one and isinstance(outcome, Succeeded))
        if self._attempt.is_stopping and not is_end:
            outcome = Stopped()
        return Ended(outcome, exit_code, self._meter.total())

    def _fanned_out(self, line: FanOutLine) -> Outcome:
        try:
            fan_out = line.fan_out()
        except InvalidInput as error:
            return Failed("unreadable_result", clip(f"the fan-out is not allowed: {error}"), True)  # noqa: FBT003 - a struct's field
        return fanned_out(fan_out, self._attempt.run)

    def _spawn(self, line: SpawnLine) -> None:
        self._attempt.alive()
        self._spawn_count += 1
        task_id = line.spawned_id(self._attempt.run.task_id, self._spawn_count)
        try:
            self._attempt.spawn(task_id, msgspec.json.encode(line.spawned()))
        except InvalidInput as error:
            self._write("log", f"spawn: {error}\n")

    def _write(self, stream: Stream, text: str, pct: float | None = None) -> None:
        self._attempt.output.write(stream, text, pct)
