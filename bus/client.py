"""The client: submit tasks, wait for their outcomes, cancel them, look at them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, Unpack

import msgspec

from fleetlog.bus.answering import answer_task
from fleetlog.bus.bounds import KnownBounds
from fleetlog.bus.cancelling import cancel_task
from fleetlog.bus.core import Refusal, Submit, Task, decide, evolve
from fleetlog.bus.core.commands import OnDuplicate
from fleetlog.bus.embedded.runtime import Target, resolve_target
from fleetlog.bus.errors import (
    AlreadySettled,
    BoundUnknown,
    ConflictError,
    FleetlogError,
    HandlerUnknown,
    PublishUnknown,
    TaskNotFound,
)
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fanning_out import open_fan_out
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.handler_catalog import HandlerCatalog
from fleetlog.bus.handles import FannedOut, Submitted
from fleetlog.bus.log import entry
from fleetlog.bus.objects import ref_of
from fleetlog.bus.outcomes import (
    History,
    Outcome,
    as_error,
)
from fleetlog.bus.rules import Decided, execute, fold, subject_of
from fleetlog.bus.settings import Overrides, Settings, load_settings
from fleetlog.bus.submit_options import Duration, SubmitOptions, with_options
from fleetlog.bus.system import System
from fleetlog.bus.waiting import Waiting
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id, derived_id, key_id
from fleetlog.schemas.objects import INLINE_MAX_BYTES
from fleetlog.schemas.specs import NO_ARGS, TaskSpec, check_spec, payload_digest
from fleetlog.schemas.subjects import guard

T = TypeVar("T")

IN_FLIGHT_MAX = 4000
"""Submits of one stream that wait for the log's answer."""
CONFLICTS_MAX = 200
"""Of these, as many are looked into at once."""

Window = deque[tuple[str, Submit, asyncio.Future[int]]]
"""Submits of one stream, in order, with the log's answers to their appends."""


class Client:
    """Acts on a fleet's tasks. Safe to share between coroutines of one event loop."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.handlers = HandlerCatalog(fleet.log)
        self.bounds = KnownBounds(fleet.log)
        self.waiting = Waiting(fleet)

    @staticmethod
    @asynccontextmanager
    async def connect(
        url: str | None = None,
        *,
        fleet: str | None = None,
        settings: Settings | None = None,
        target: Target | None = None,
        system: System | None = None,
    ) -> AsyncIterator[Client]:
        """Connects to a fleet: at `url`, or the one that `fleetlog up` runs on this machine.

        Raises:
            Unavailable: no fleet is there; the message says how to start one.
            ConfigError: a setting or the credentials are wrong.
        """
        settings = settings or load_settings(Overrides(url=url, fleet=fleet))
        target = target or resolve_target(settings)
        async with open_fleet(target, settings.fleet, system=system) as opened:
            yield Client(opened)

    async def submit(
        self,
        spec: TaskSpec,
        *,
        key: str | None = None,
        task_id: str | None = None,
        timeout_s: float | None = None,
        is_checked: bool = False,
        on_duplicate: OnDuplicate = "return",
        **options: Unpack[SubmitOptions],
    ) -> Submitted:
        """Submits one task; when this returns, the log has it.

        The same key or id submitted again, by anyone at any time, is the same task.

        Args:
            spec: the work, from `call(...)`.
            key: an idempotency key of the caller's.
            task_id: an id of the caller's; made up when neither is given.
            timeout_s: how long to wait for the log's answer; None for as long as it takes.
            is_checked: refuse what no handler of the fleet would take, see `HandlerCatalog.check`.
            on_duplicate: when the key or id is there: `return` that task, `replace` it as long as it has not
                started (else as `return`), or `refuse`.
            options: what is different from the spec, such as `queue="gpu"`, `delay="10s"`.

        Raises:
            InvalidInput: the spec or an option is not allowed, the task is larger than the server takes, or
                checked arguments do not fit; nothing was written.
            LogFull: the log is near its size limit; nothing was written.
            HandlerUnknown: checked, and no agent ever had the handler; nothing was written.
            BoundUnknown: checked, and nobody has set one of its limits or budgets; nothing was written.
            KeyTaken: the key or id belongs to a task with another payload; to any task, with `refuse`.
            PublishUnknown: no answer in time; the task may or may not be there. Submit it again with the
                same key or id, which is safe.
        """
        task_id, command = await self._prepare(
            with_options(spec, options), key=key, task_id=task_id, is_checked=is_checked
        )
        command = msgspec.structs.replace(command, on_duplicate=on_duplicate)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._settle(task_id, command)
        except TimeoutError as error:
            raise PublishUnknown(
                f"no answer within {timeout_s:g} s: task {task_id} may or may not have been accepted."
                f" `fleetlog task show {task_id}` tells; to submit it again is safe with the same key or id."
                " If it goes on like that, see `fleetlog doctor` and whether the server's disk is full: after"
                " that a nats-server takes nothing until it is started again"
            ) from error

    async def submit_stream(
        self,
        specs: Iterable[TaskSpec] | AsyncIterable[TaskSpec],
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        is_checked: bool = False,
    ) -> AsyncIterator[Submitted]:
        """Submits any number of tasks, many at once, and yields each in the order given once the log has it.

        Not atomic: when it raises or is left early, later tasks than the last one yielded may have been
        accepted; with keys in the specs it is safe to submit all again.

        Args:
            specs: the work; read as fast as the log takes it.
            in_flight_max: the most that may wait for the log's answer.
            is_checked: see `submit`.

        Raises:
            InvalidInput: a spec is not allowed or too large, or checked arguments do not fit.
            HandlerUnknown: checked, and no agent ever had one of the handlers.
            LogFull: the log is near its size limit.
            KeyTaken: a key belongs to a task with another payload, perhaps one of these.
        """
        window: Window = deque()
        refused: FleetlogError | InvalidInput | None = None
        try:
            async for spec in _each(specs):
                while window and (len(window) >= in_flight_max or window[0][2].done()):
                    async for submitted in self._settle_first(window):
                        yield submitted
                try:
                    task_id, command = await self._prepare(spec, is_checked=is_checked)
                except (FleetlogError, InvalidInput) as error:
                    # Those before it are on their way: their answers come first.
                    refused = error
                    break
                window.append((task_id, command, self._append_first(task_id, command)))
            while window:
                async for submitted in self._settle_first(window):
                    yield submitted
            if refused is not None:
                raise refused
        finally:
            for _, _, appended in window:
                # Left early: whether these are refused is no longer anybody's question.
                appended.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def submit_many(
        self,
        specs: Iterable[TaskSpec] | AsyncIterable[TaskSpec],
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        is_checked: bool = False,
    ) -> list[Submitted]:
        """All of `submit_stream` in one list."""
        stream = self.submit_stream(specs, in_flight_max=in_flight_max, is_checked=is_checked)
        return [submitted async for submitted in stream]

    async def fan_out(
        self,
        fan_out: FanOut,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        is_checked: bool = False,
    ) -> FannedOut:
        """Submits many tasks at once, with one that runs when they have settled.

        All of it is named in one event: when this returns, all of it will happen, whoever dies.

        Args:
            fan_out: members, policy and continuation.
            key: an idempotency key of the caller's; the same key submitted again is the same fan-out.
            timeout_s: how long to wait for the log's answer; None for as long as it takes.
            is_checked: see `submit`.

        Raises:
            InvalidInput: something in it is not allowed; nothing was written.
            TaskNotFound: a member named by its id is not there; nothing was written.
            KeyTaken: the key belongs to another fan-out.
            LogFull, HandlerUnknown, PublishUnknown: see `submit`.
        """
        # Not the id of the task with this key, which may fan out itself.
        barrier_id = derived_id(key_id(key), "b") if key is not None else self.fleet.system.new_id()
        plan = fan_out.plan(barrier_id)
        for member in (*plan.members, *filter(None, (plan.then,))):
            if member.spec is None:
                await self.waiting.settled(member.task_id)
            elif is_checked:
                await self._check(member.spec, member.task_id)
        try:
            async with asyncio.timeout(timeout_s):
                opened = await open_fan_out(self.fleet, barrier_id, plan)
                return FannedOut(self, barrier_id, plan, opened)
        except TimeoutError as error:
            raise PublishUnknown(
                f"no answer within {timeout_s:g} s: fan-out {barrier_id} may or may not have been accepted."
                " Submit it again with the same key; that is safe"
            ) from error

    async def barrier_end(self, barrier_id: str) -> Outcome:
        """Waits until a barrier has been released or abandoned: completed, without a result, or failed.

        Raises:
            TaskNotFound: there is no such barrier.
        """
        return await self.waiting.barrier_end(barrier_id)

    async def check(self, spec: TaskSpec) -> None:
        """Refuses what `submit` would refuse with `is_checked`; nothing is written.

        Raises:
            InvalidInput: the spec is not allowed or too large, or its arguments do not fit its handler.
            HandlerUnknown: no agent ever had the handler.
            LogFull: the log is near its size limit.
        """
        await self._prepare(spec, is_checked=True, is_stored=False)

    async def result(
        self, task_id: str, timeout: Duration | None = None, *, is_fetched: bool = True
    ) -> Outcome:
        """Waits for the task's outcome, through restarts of the server.

        Args:
            task_id: the task.
            timeout: how long to wait; None for as long as it takes.
            is_fetched: see `outcome`.

        Raises:
            TaskNotFound: there is no such task.
            ObjectLost: see `outcome`.
            TimeoutError: it has not settled within `timeout`; it goes on.
        """
        return await self.waiting.result(task_id, timeout, is_fetched=is_fetched)

    async def outcome(self, task_id: str, *, is_fetched: bool = True) -> Outcome | None:
        """The task's outcome, None while it has not settled.

        Args:
            task_id: the task.
            is_fetched: also get a result that was too large for the event; else `result_ref` says where it is.

        Raises:
            TaskNotFound: there is no such task.
            ObjectLost: it completed, but its stored result is missing or damaged.
        """
        return await self.waiting.outcome(task_id, is_fetched=is_fetched)

    async def cancel(
        self, task_id: str, *, reason: str | None = None, actor: str | None = None
    ) -> None:
        """Ends the task: at once when it does not run, else its agent ends it and then it is cancelled.

        Asking again for the end of a task that is ending does nothing.

        Raises:
            TaskNotFound: there is no such task.
            AlreadySettled: it has its outcome.
        """
        asked = await cancel_task(self.fleet, task_id, reason=reason, actor=actor)
        if asked.is_late and asked.outcome is not None:
            raise AlreadySettled(
                f"task {task_id} is {asked.outcome.state} already; nothing was changed"
            )

    async def answer(self, task_id: str, value: Any, *, actor: str | None = None) -> None:
        """Answers what the task asks (`NeedInput`); see `answer_task` for the limits and errors."""
        await answer_task(self.fleet, task_id, value, actor=actor)

    async def get(self, task_id: str) -> History:
        """The task and all its events.

        Raises:
            TaskNotFound: there is no such task.
        """
        check_id(task_id, "task id")
        stored = await self.fleet.log.read_thing(guard(self.fleet.name, "task", task_id))
        if not stored:
            raise TaskNotFound(
                f"there is no task {task_id} in fleet {self.fleet.name};"
                " `fleetlog task list` shows what there is"
            )
        task = Task(id=task_id)
        events = tuple(open_stored(one) for one in stored)
        for event in events:
            task = evolve(task, event)
        return History(task, events)

    async def _prepare(
        self,
        spec: TaskSpec,
        *,
        key: str | None = None,
        task_id: str | None = None,
        is_checked: bool = False,
        is_stored: bool = True,
    ) -> tuple[str, Submit]:
        if key is not None:
            spec = msgspec.structs.replace(spec, key=key)
        check_spec(spec)
        if spec.barrier_id is not None or spec.continues is not None:
            raise InvalidInput(
                "barrier_id and continues are a fan-out's to set: use `Client.fan_out`"
            )
        if spec.schedule is not None:
            raise InvalidInput("schedule is a schedule's to set: use `fleetlog schedule add`")
        task_id = self._choose_id(spec, task_id)
        if is_checked:
            await self._check(spec, task_id)
        # Of the whole payload, so that wherever it stands the same work is the same task.
        digest = payload_digest(spec)
        if is_large := len(memoryview(spec.args)) > INLINE_MAX_BYTES:
            args = bytes(spec.args)
            spec = msgspec.structs.replace(spec, args=NO_ARGS, args_ref=ref_of(args))
        for other_id in spec.after:
            await self.waiting.settled(other_id)
        await self.fleet.room.check(spec)
        if is_large and is_stored:
            # Before the event that names it.
            await self.fleet.objects.put(args)
        if is_stored:
            await self.fleet.derived.ensure((spec,))
        return task_id, Submit(id=self.fleet.system.new_id(), spec=spec, digest=digest)

    def _append_first(self, task_id: str, command: Submit) -> asyncio.Future[int]:
        """Appends the task's first event, taking for granted that it has none."""
        task = Task(id=task_id)
        event = decide(command, task, self.fleet.log.now())
        assert not isinstance(event, Refusal)
        subject = subject_of(self.fleet.name, task, event)
        return self.fleet.log.append(entry(subject, task.version, event))

    async def _settle(
        self, task_id: str, command: Submit, appended: asyncio.Future[int] | None = None
    ) -> Submitted:
        try:
            seq = await (appended or self._append_first(task_id, command))
            return Submitted(self, task_id, seq, is_duplicate=False)
        except ConflictError:
            stored = await self._read(task_id)
        outcome = await execute(self.fleet.log, command, fold(task_id, stored))
        if isinstance(outcome, Decided):
            return Submitted(self, task_id, outcome.seq, is_duplicate=False)
        if outcome.code != "duplicate":
            raise as_error(outcome)
        stored = stored or await self._read(task_id)
        return Submitted(self, task_id, stored[0].seq, is_duplicate=True)

    async def _settle_first(self, window: Window) -> AsyncIterator[Submitted]:
        """Takes the first out of the window; after a conflict, with it those behind that are answered too."""
        task_id, _, appended = first = window.popleft()
        try:
            seq = await appended
        except ConflictError:
            # Keys that the log knows come in rows: one after the other, each would cost several round trips.
            answered = [first]
        else:
            yield Submitted(self, task_id, seq, is_duplicate=False)
            return
        while window and len(answered) < CONFLICTS_MAX and window[0][2].done():
            answered.append(window.popleft())
        settling = (self._settle(*each) for each in answered)
        for settled in await asyncio.gather(*settling, return_exceptions=True):
            if isinstance(settled, BaseException):
                raise settled
            yield settled

    async def _read(self, task_id: str) -> list[Stored]:
        return await self.fleet.log.read_thing(guard(self.fleet.name, "task", task_id))

    async def _check(self, spec: TaskSpec, task_id: str) -> None:
        try:
            await self.handlers.check(spec)
            await self.bounds.check(spec)
        except (HandlerUnknown, BoundUnknown, InvalidInput):
            # What was accepted once is the same task for ever, whatever its handler takes by now.
            if await self.fleet.log.last(guard(self.fleet.name, "task", task_id)) is None:
                raise

    def _choose_id(self, spec: TaskSpec, task_id: str | None) -> str:
        if spec.key is not None:
            if task_id is not None:
                raise InvalidInput("give a key or a task id, not both")
            return key_id(spec.key)
        return check_id(task_id, "task id") if task_id is not None else self.fleet.system.new_id()


async def _each(specs: Iterable[TaskSpec] | AsyncIterable[TaskSpec]) -> AsyncIterator[TaskSpec]:
    if isinstance(specs, AsyncIterable):
        async for spec in specs:
            yield spec
    else:
        for spec in specs:
            yield spec
