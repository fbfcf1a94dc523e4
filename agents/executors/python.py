"""The executor `python`: handlers of the app, async ones as tasks, plain functions in threads."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final

import msgspec

from fleetlog.agents.answers import Cancel, NeedInput, PermanentError, Retry
from fleetlog.agents.context import Context
from fleetlog.agents.executors.attempt import Attempt, Ended
from fleetlog.agents.executors.branches import fanned_out
from fleetlog.agents.executors.streams import current_output
from fleetlog.agents.frames import (
    Asked,
    Cancelled,
    Deferred,
    Failed,
    Outcome,
    Run,
    Stopped,
    Succeeded,
    clip,
)
from fleetlog.agents.handlers import Handler
from fleetlog.bus.call import near_names
from fleetlog.bus.fan_out import FanOut
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES

_TRACEBACK_ENTRIES: Final = 8


class PythonExecutor:
    """Runs handlers. Plain functions share `threads`; the loop is the async handlers'."""

    def __init__(self, handlers: Mapping[str, Handler], threads: ThreadPoolExecutor) -> None:
        self._handlers = handlers
        self._threads = threads

    async def run(self, attempt: Attempt) -> Ended:
        """See `Executor`."""
        if attempt.is_stopping:
            return Ended(Stopped())
        name = attempt.run.handler
        handler = self._handlers.get(name)
        if handler is None:
            known = near_names(name, self._handlers)
            return Ended(Failed("unknown_handler", f"no handler {name!r} here{known}", True))  # noqa: FBT003 - a struct's field
        try:
            arguments = handler.read(attempt.run.args)
        except InvalidInput as error:
            return Ended(Failed("invalid_input", clip(str(error)), True))  # noqa: FBT003 - a struct's field
        context = _context(attempt)
        if handler.signature.context_name is not None:
            arguments[handler.signature.context_name] = context
        current_output.set(attempt.output)
        if handler.is_async:
            outcome = await _run_async(handler, arguments, attempt, context)
        else:
            outcome = await self._run_in_thread(handler, arguments, attempt, context)
        attempt.on_stop(None)
        return Ended(_settled(outcome, attempt))

    async def _run_in_thread(
        self, handler: Handler, arguments: dict[str, object], attempt: Attempt, context: Context
    ) -> Outcome:
        attempt.on_stop(context.cancel)
        work = copy_context()
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, work.run, _run_plain, handler, arguments, attempt.run
        )


async def _run_async(
    handler: Handler, arguments: dict[str, object], attempt: Attempt, context: Context
) -> Outcome:
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        context.cancel()
        task.cancel()

    attempt.on_stop(stop)
    try:
        answer = handler.function(**arguments)
        assert inspect.isawaitable(answer)
        outcome = _read_answer(await answer, attempt.run)
    except asyncio.CancelledError:
        if attempt.is_stopping:
            outcome = Stopped()
        elif task.cancelling():
            raise  # the worker itself ends
        else:
            outcome = Failed("error", "the handler was cancelled by something it awaited")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary to user code
        outcome = _read_exception(error)
    if attempt.is_stopping:
        task.uncancel()
    return outcome


def _run_plain(handler: Handler, arguments: dict[str, object], run: Run) -> Outcome:
    try:
        return _read_answer(handler.function(**arguments), run)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary to user code
        return _read_exception(error)


def _settled(outcome: Outcome, attempt: Attempt) -> Outcome:
    """Told to stop, a handler that gives a value has finished; one that gives nothing or raises has stopped."""
    if not attempt.is_stopping:
        return outcome
    match outcome:
        case Succeeded(result, fan_out) if result != b"null" or fan_out is not None:
            return outcome
        case Cancelled() | Asked():
            return outcome
        case _:
            return Stopped()


def _read_answer(answer: object, run: Run) -> Outcome:
    match answer:
        case Retry(reason=reason, counts=True):
            return Failed("error", clip(reason), delay_ms=answer.after_ms)
        case Retry(reason=reason):
            return Deferred(clip(reason), answer.after_ms)
        case Cancel(reason=reason):
            return Cancelled(clip(reason))
        case NeedInput():
            return _asked(answer)
        case FanOut():
            return fanned_out(answer, run)
        case _:
            return _encode(answer)


def _encode(value: object) -> Outcome:
    try:
        result = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return _unreadable(
            f"the handler's result, of type {type(value).__name__}, cannot be written as JSON: {error};"
            " return numbers, text, lists, dicts, dataclasses or msgspec structs"
        )
    if len(result) > PAYLOAD_MAX_BYTES:
        return _unreadable(
            f"the handler's result has {len(result)} bytes, at most {PAYLOAD_MAX_BYTES} are allowed:"
            " write it to a file or a store and return its name"
        )
    return Succeeded(result)


def _unreadable(error: str) -> Failed:
    return Failed("unreadable_result", clip(error), is_permanent=True)


def _asked(asking: NeedInput) -> Asked:
    return Asked(clip(asking.question.text), asking.question.choices)


def _read_exception(error: BaseException) -> Failed | Asked:
    if isinstance(error, NeedInput):
        return _asked(error)
    # The first entry is this module's own.
    entries = error.__traceback__.tb_next if error.__traceback__ else None
    lines = traceback.format_exception(type(error), error, entries, limit=-_TRACEBACK_ENTRIES)
    summary = "".join(traceback.format_exception_only(error)).strip()
    text = clip(f"{summary}\n\n{''.join(lines)}")
    if isinstance(error, PermanentError):
        return Failed("permanent", text, is_permanent=True)
    return Failed("error", text)


def _context(attempt: Attempt) -> Context:
    run: Run = attempt.run
    return Context(
        run.task_id,
        attempt=run.attempt,
        fence=run.fence,
        deadline=run.deadline,
        emit=attempt.output.write,
        leave=attempt.leave,
        children=run.children or (),
        gather=attempt.gather,
        answers=run.answers,
    )
