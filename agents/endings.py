"""How an attempt ended, as the command that records it. Pure: no I/O."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from fleetlog.agents.frames import (
    Asked,
    Cancelled,
    Deferred,
    Done,
    Failed,
    Limited,
    Stopped,
    StopWhy,
    Succeeded,
    Utilization,
    clip,
)
from fleetlog.agents.worker_process import WorkerDied
from fleetlog.agents.worktrees.failures import WorktreeFailed
from fleetlog.bus.core import Cancel, Complete, Fail, Return, Task
from fleetlog.bus.errors import ObjectLost
from fleetlog.schemas.durations import format_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import AllowanceUse
from fleetlog.schemas.fan_outs import FanOutSpec
from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import read_json

STORE_AWAY_MS: Final = 30_000
"""A task whose arguments could not be fetched is not offered again before this."""

Why = StopWhy | Literal["lost"]
Ending = Complete | Fail | Return | Cancel


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the end, whatever the worker said."""

    id: str
    """For the command."""
    task: Task
    """As claimed."""
    why: Why | None
    """Why it was stopped; None when it was not."""
    jitter: float
    """For the backoff."""


def of_done(end: End, done: Done) -> Ending:
    """The attempt ended by itself, or when it was asked to.

    A success counts even when the attempt had been asked to stop meanwhile: the work is done.
    """
    base = _base(end, done)
    match done.outcome:
        case Succeeded(_, fan_out) if fan_out is not None:
            return Complete(
                result=msgspec.Raw(b"null"),
                fan_out=msgspec.json.decode(fan_out, type=FanOutSpec),
                **base,
            )
        case Succeeded(result):
            return _complete(end, base, result)
        case Asked(question, choices):
            # Like a success, whatever it was told meanwhile: with the answer it need not do it all again.
            asked = Question(text=question, choices=choices)
            return Return(error_class="needs_input", error=question, question=asked, **base)
        case Cancelled(reason):
            return Cancel(reason=reason, **base)
        case Stopped() if end.why is None:
            return Return(error_class="drained", error="its worker was told to end", **base)
        case Failed(error_class, error, is_permanent, delay_ms) if end.why is None:
            return Fail(
                error_class=error_class,
                error=error,
                is_permanent=is_permanent,
                delay_ms=delay_ms,
                jitter=end.jitter,
                **base,
            )
        case Deferred(error, delay_ms) if end.why is None:
            return Return(error_class="deferred", error=error, delay_ms=delay_ms, **base)
        case Limited(error_class, error, delay_ms=delay_ms) if end.why is None:
            return Return(error_class=error_class, error=error, delay_ms=delay_ms, **base)
        case _:
            return _of_stop(end, base)


def of_death(end: End, death: WorkerDied, ran_ms: int, *, is_wanted: bool) -> Ending:
    """The worker process ended under the attempt.

    Args:
        end: what is known.
        death: how the worker ended.
        ran_ms: how long the attempt ran.
        is_wanted: the worker was ended for another attempt in it, or with its agent: no fault of this task.
    """
    base = _base(end) | {"ran_ms": ran_ms}
    if end.why is not None:
        return _of_stop(end, base)
    if is_wanted:
        return Return(error_class="crash", error=str(death), **base)
    base["exit_code"] = death.exit_code if death.signal is None else -death.signal
    return Fail(error_class="crash", error=str(death), jitter=end.jitter, **base)


def of_refused_run(end: End, error: str) -> Ending:
    """The attempt could not be handed to a worker at all."""
    return Fail(
        error_class="invalid_input", error=error, is_permanent=True, jitter=end.jitter, **_base(end)
    )


def of_missing_arguments(end: End, error: Exception) -> Ending:
    """The arguments could not be fetched, or the attempt was stopped before they were; nothing ran."""
    base = _base(end)
    if end.why is not None:
        return _of_stop(end, base)
    if isinstance(error, ObjectLost):
        text = f"its arguments cannot be had: {error}"
        return Fail(
            error_class="arguments_lost",
            error=text,
            is_permanent=True,
            jitter=end.jitter,
            **base,
        )
    return Return(error_class="store_unavailable", error=str(error), delay_ms=STORE_AWAY_MS, **base)


def of_missing_worktree(end: End, error: WorktreeFailed) -> Ending:
    """There was no worktree to run in; nothing ran."""
    base = _base(end)
    if end.why is not None:
        return _of_stop(end, base)
    return Fail(
        error_class="worktree",
        error=clip(str(error)),
        is_permanent=error.is_permanent,
        jitter=end.jitter,
        **base,
    )


def _of_stop(end: End, base: dict[str, Any]) -> Ending:
    spec = end.task.spec
    assert spec is not None
    match end.why:
        case "timeout":
            limit = f" of {format_duration(spec.timeout_ms)}" if spec.timeout_ms else ""
            error = f"ran longer than its time-out{limit}"
            return Fail(error_class="timeout", error=error, jitter=end.jitter, **base)
        case "silence":
            error = f"gave no output or heartbeat for {format_duration(spec.silence_ms or 0)}"
            return Fail(error_class="silence", error=error, jitter=end.jitter, **base)
        case "drain":
            return Return(error_class="drained", error="its agent was told to stop", **base)
        case "lost":
            # Almost always refused: someone else holds the task. If not yet, it is given back.
            return Return(error_class="lost", error="its agent lost the lease", **base)
        case _:
            return Cancel(**base)


def _complete(end: End, base: dict[str, Any], result: bytes) -> Ending:
    if len(result) > PAYLOAD_MAX_BYTES:
        error = (
            f"the result has {len(result)} bytes and at most {PAYLOAD_MAX_BYTES} are allowed:"
            " write it to a file and return the path"
        )
        return _unreadable(end, base, error)
    try:
        # What can't be read back must not get into the log.
        read_json(result, "result")
    except InvalidInput as refusal:
        return _unreadable(end, base, str(refusal))
    return Complete(result=msgspec.Raw(result), **base)


def _unreadable(end: End, base: dict[str, Any], error: str) -> Ending:
    return Fail(
        error_class="unreadable_result", error=error, is_permanent=True, jitter=end.jitter, **base
    )


def _allowance(said: Utilization) -> AllowanceUse:
    return AllowanceUse(
        credential=said.credential,
        window=said.window,
        utilization=said.utilization,
        resets_at=said.resets_at,
    )


def _base(end: End, done: Done | None = None) -> dict[str, Any]:
    lease = end.task.lease
    assert lease is not None
    base: dict[str, Any] = {"id": end.id, "fence": lease.fence}
    if done is None:
        return base
    base["ran_ms"] = done.ran_ms
    base["exit_code"] = done.exit_code
    base["usage"] = done.usage
    base["session_id"] = done.session_id
    base["allowances"] = tuple(map(_allowance, done.utilizations))
    return base
