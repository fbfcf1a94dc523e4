"""The contract with commands, version 1: a JSON document on stdin, JSON lines on stdout, exit codes.

A stdout line that is a JSON object with one of the types below is read; every other line is output:

    {"type": "log", "msg": …, "level"?}
    {"type": "progress", "pct"?, "msg"?}
    {"type": "heartbeat"}
    {"type": "usage", "input_tokens"?, "output_tokens"?, "cost_usd"?, "model"?}
    {"type": "artifact", "path": …, "name"?, "media_type"?}
        a file below the working directory; it is kept as it is when the command has ended
    {"type": "spawn", "handler": …, "args"?, "key"?, "queue"?, "priority"?, "labels"?, "timeout"?, …}
        a task that is made now and not waited for; "argv" in place of handler and args for a command
    {"type": "fan_out", "members": […], "then"?, "policy"?, "quorum"?, "deadline"?, "stragglers"?}
        the outcome, instead of a result: members and "then" are objects as in spawn, members also ids of tasks
    {"type": "need_input", "question": …, "choices"?}
        what a person must answer before it can go on: it ends with code 0 or 75, and another attempt follows
        the answer, which it finds in $FLEETLOG_ANSWER and under "answers" of its document
    {"type": "result", "status": "ok" or "error", "output"?, "error"?}
        where error is {"code"?, "message"?, "retryable"?, "retry_at"?}

Exit codes: 0 done; 64, 65, 77, 78 failed for good; 75 try again later, without blame; 124 timed out; all
others failed, to be retried. The last result line counts; it overrides the exit code only towards failure.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleetlog.agents.executors.asking import NeedInputLine
from fleetlog.agents.executors.branches import FanOutLine, SpawnLine
from fleetlog.agents.executors.lines import JSON_CHARS_MAX
from fleetlog.agents.frames import (
    Deferred,
    Failed,
    Outcome,
    Run,
    Succeeded,
    clip,
)
from fleetlog.agents.groups import signal_name
from fleetlog.schemas.durations import DURATION_MAX_MS
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import Usage
from fleetlog.schemas.objects import INLINE_MAX_BYTES, PAYLOAD_MAX_BYTES

DEFER_MS: Final = 30_000
"""The wait after exit code 75, unless the result names a time."""

_PERMANENT_CODES: Final = {
    64: "wrong usage",
    65: "wrong input",
    77: "no permission",
    78: "wrong configuration",
}
_DEFER_CODE: Final = 75
_TIMEOUT_CODE: Final = 124

Count = Annotated[int, Meta(ge=0, le=2**53)]


class LogLine(msgspec.Struct, frozen=True, tag_field="type", tag="log"):
    """A message for people."""

    msg: str
    level: str = "info"


class ProgressLine(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """How far it is."""

    pct: float | None = None
    msg: str = ""


class HeartbeatLine(msgspec.Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """A sign of life."""


class UsageLine(msgspec.Struct, frozen=True, tag_field="type", tag="usage"):
    """What was used since the last such line."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cost_usd: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    model: str | None = None


class ArtifactLine(msgspec.Struct, frozen=True, tag_field="type", tag="artifact"):
    """A file to be kept."""

    path: str
    name: str | None = None
    media_type: str | None = None


class ResultError(msgspec.Struct, frozen=True):
    """Why it failed."""

    code: str | int | None = None
    message: str = ""
    retryable: bool = True
    retry_at: datetime | None = None


class ResultLine(msgspec.Struct, frozen=True, tag_field="type", tag="result"):
    """The outcome."""

    status: Literal["ok", "error"]
    output: msgspec.Raw = msgspec.Raw(b"null")
    error: ResultError | None = None


_RESULT_HEAD: Final = re.compile(r'\s*\{\s*("status"\s*:\s*"[a-z]*"\s*,\s*)?"type"\s*:\s*"result"')

Line = (
    LogLine
    | ProgressLine
    | HeartbeatLine
    | UsageLine
    | ArtifactLine
    | SpawnLine
    | FanOutLine
    | NeedInputLine
    | ResultLine
)

_decoder: Final[msgspec.json.Decoder[Line]] = msgspec.json.Decoder(Line)


def read_line(text: str) -> Line | None:
    """The line, if it is one of the contract's; None if it is output."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        line = _decoder.decode(text)
        match line:
            case ResultLine(_, output):
                msgspec.json.decode(output)
            case SpawnLine():
                msgspec.json.decode(line.args)
            case NeedInputLine():
                line.asked()
    except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidInput):
        return None
    return line


def is_cut_result(text: str) -> bool:
    """Whether the text is the head of a result line that is longer than one is held."""
    return len(text) > JSON_CHARS_MAX and _RESULT_HEAD.match(text) is not None


class Meter:
    """Adds up what the usage lines say."""

    def __init__(self) -> None:
        self._input_tokens = 0
        self._output_tokens = 0
        self._cost_micro_usd = 0
        self._models: dict[str, int] = {}
        self._has_any = False

    def add(self, line: UsageLine) -> None:
        """Adds one line."""
        self._has_any = True
        self._input_tokens += line.input_tokens
        self._output_tokens += line.output_tokens
        self._cost_micro_usd += round(line.cost_usd * 1_000_000)
        if line.model is not None:
            tokens = line.input_tokens + line.output_tokens
            self._models[line.model] = self._models.get(line.model, 0) + tokens

    def total(self) -> Usage | None:
        """The sum; None if there was no line."""
        if not self._has_any:
            return None
        return Usage(
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cost_micro_usd=self._cost_micro_usd,
            model=max(self._models, key=lambda name: self._models[name], default=None),
        )


def document(run: Run, payload: msgspec.Raw, workdir: str) -> bytes:
    """What the command reads on its stdin: one JSON object and a line end."""
    fields: dict[str, object] = {
        "v": 1,
        "task_id": run.task_id,
        "attempt": run.attempt,
        "kind": run.handler,
        "payload": payload,
        "deadline": run.deadline,
        "workdir": workdir,
    }
    if run.parent_id is not None or run.traceparent is not None:
        trace = {"traceparent": run.traceparent} if run.traceparent is not None else None
        fields["context"] = {"parent_id": run.parent_id, "trace": trace}
    if run.answers:
        fields["answers"] = run.answers
    return msgspec.json.encode(fields) + b"\n"


def read_outcome(
    exit_code: int, result: ResultLine | None, *, stdout: str, stderr: str, now: datetime
) -> Outcome:
    """What an exit code (negative for a signal) and the result line mean.

    Args:
        exit_code: the command's.
        result: the last result line.
        stdout: the end of its output, the result where there is no result line.
        stderr: the end of its error output, shown with an error.
        now: the worker's clock, for `retry_at`.
    """
    error = result.error if result is not None else None
    said = error.message if error is not None else ""
    delay_ms = _delay_ms(error, now)
    if exit_code == 0 and (result is None or result.status == "ok"):
        return _success(result, stdout)
    if exit_code == 0:
        is_permanent = error is not None and not error.retryable
        text = clip(said or "the command's result line says that it failed")
        return Failed("permanent" if is_permanent else "error", text, is_permanent, delay_ms)
    text = _describe(exit_code, said, stderr)
    if exit_code == _DEFER_CODE:
        return Deferred(text, DEFER_MS if delay_ms is None else delay_ms)
    if exit_code in _PERMANENT_CODES or (error is not None and not error.retryable):
        return Failed("permanent", text, is_permanent=True)
    return Failed("timeout" if exit_code == _TIMEOUT_CODE else "error", text, delay_ms=delay_ms)


def _success(result: ResultLine | None, stdout: str) -> Outcome:
    if result is None:
        return Succeeded(encode_tail(stdout))
    output = bytes(result.output)
    if len(output) > PAYLOAD_MAX_BYTES:
        return too_large(f"{len(output)}")
    return Succeeded(output)


def too_large(size: str) -> Failed:
    """A result of so many bytes cannot be recorded."""
    text = (
        f"the result has {size} bytes, at most {PAYLOAD_MAX_BYTES} are allowed:"
        " write it to a file or a store and give its name"
    )
    return Failed("unreadable_result", text, is_permanent=True)


def encode_tail(text: str) -> bytes:
    """The end of a text as a JSON string small enough to stand in an event, without trailing line ends."""
    text = text.rstrip("\r\n")
    while (excess := len(encoded := msgspec.json.encode(text)) - INLINE_MAX_BYTES) > 0:
        # A character takes up to six bytes, so that this ends after a few rounds.
        text = text[max(1, excess // 6) :]
    return encoded


def _delay_ms(error: ResultError | None, now: datetime) -> int | None:
    if error is None or error.retry_at is None:
        return None
    at = error.retry_at if error.retry_at.tzinfo else error.retry_at.replace(tzinfo=now.tzinfo)
    return min(max(0, round((at - now).total_seconds() * 1000)), DURATION_MAX_MS)


def _describe(exit_code: int, said: str, stderr: str) -> str:
    if exit_code < 0:
        head = f"the command was ended by {signal_name(-exit_code)}"
    else:
        meaning = _PERMANENT_CODES.get(exit_code)
        head = f"the command ended with code {exit_code}" + (f" ({meaning})" if meaning else "")
    return clip("\n".join(part for part in (head, said, stderr.strip()) if part))
