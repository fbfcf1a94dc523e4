"""The client: submit tasks, wait for their outcomes, cancel them, look at them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, Unpack

import msgspec

from fleetlog.bus.cancelling import abandon, cancel_task
from fleetlog.bus.core import Refusal, Submit, Task, decide, evolve
from fleetlog.bus.embedded.runtime import Target, resolve_target
from fleetlog.bus.errors import (
    AlreadySettled,
    ConflictError,
    HandlerUnknown,
    KeyTaken,
    PublishUnknown,
    TaskNotFound,
    Unavailable,
)
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fanning_out import make_members, store_plan
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.handler_catalog import HandlerCatalog
from fleetlog.bus.log import entry
from fleetlog.bus.objects import ref_of
from fleetlog.bus.outcomes import (
    History,
    Outcome,
    as_error,
    barrier_outcome,
    outcome_of,
    with_result,
)
from fleetlog.bus.rules import Decided, execute, fold, subject_of
from fleetlog.bus.settings import Overrides, Settings, load_settings
from fleetlog.bus.submit_options import Duration, SubmitOptions, seconds_of, with_options
from fleetlog.bus.system import System
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import BarrierOpened, TaskCompleted, TerminalEvent, verb_of
from fleetlog.schemas.fan_outs import FanOutSpec, plan_digest
from fleetlog.schemas.ids import check_id, key_id
from fleetlog.schemas.objects import INLINE_MAX_BYTES
from fleetlog.schemas.specs import NO_ARGS, TaskSpec, check_spec, payload_digest
from fleetlog.schemas.subjects import Subject, guard

logger = logging.getLogger("fleetlog.bus")

T = TypeVar("T")

IN_FLIGHT_MAX = 4000
"""Submits of one stream that wait for the log's answer."""
CONFLICTS_MAX = 200
"""Of these, as many are looked into at once."""
AGAIN_S = 1.0
"""How soon it looks again when the log did not answer."""
POLL_S = 2.0
"""How often a waiting client looks at the log although no hint came."""

Window = deque[tuple[str, Submit, asyncio.Future[int]]]
"""Submits of one stream, in order, with the log's answers to their appends."""


class Submitted:
    """A task that the log has accepted."""

    def __init__(self, client: Client, task_id: str, seq: int, *, is_duplicate: bool) -> None:
        self.task_id = task_id
        self.seq = seq
        self.is_duplicate = is_duplicate
        self._client = client

    async def result(self, timeout: Duration | None = None) -> Outcome:
        """See `Client.result`."""
        return await self._client.result(self.task_id, timeout)

    async def cancel(self, *, reason: str | None = None) -> None:
        """See `Client.cancel`."""
        await self._client.cancel(self.task_id, reason=reason)

    def __repr__(self) -> str:
        return f"<task {self.task_id} at {self.seq}{' (duplicate)' if self.is_duplicate else ''}>"


class FannedOut:
    """A fan-out that the log has accepted."""

    def __init__(
        self, client: Client, barrier_id: str, seq: int, plan: FanOutSpec, *, is_duplicate: bool
    ) -> None:
        self.barrier_id = barrier_id
        self.seq = seq
        self.task_ids = [member.task_id for member in plan.members]
        """The members', in order."""
        self.continuation_id = plan.then.task_id if plan.then is not None else None
        self.is_duplicate = is_duplicate
        self._client = client

    async def result(self, timeout: Duration | None = None) -> Outcome:
        """The continuation's outcome; without one, how the barrier ended. See `Client.result`."""
        if self.continuation_id is not None:
            return await self._client.result(self.continuation_id, timeout)
        async with asyncio.timeout(seconds_of(timeout)):
            return await self._client.barrier_end(self.barrier_id)

    async def cancel(self, *, reason: str | None = None, actor: str | None = None) -> None:
        """Ends it: open members are cancelled, the continuation does not run."""
        await abandon(self._client.fleet, self.barrier_id, reason=reason, actor=actor)

    def __repr__(self) -> str:
        return f"<fan-out {self.barrier_id} of {len(self.task_ids)} at {self.seq}>"


class Client:
    """Acts on a fleet's tasks. Safe to share between coroutines of one event loop."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.handlers = HandlerCatalog(fleet.log)

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
            options: what is different from the spec, such as `queue="gpu"`, `delay="10s"`.

        Raises:
            InvalidInput: the spec or an option is not allowed, the task is larger than the server takes, or
                checked arguments do not fit; nothing was written.
            LogFull: the log is near its size limit; nothing was written.
            HandlerUnknown: checked, and no agent ever had the handler; nothing was written.
            KeyTaken: the key or id belongs to a task with another payload.
            PublishUnknown: no answer in time; the task may or may not be there. Submit it again with the
                same key or id, which is safe.
        """
        task_id, command = await self._prepare(
            with_options(spec, options), key=key, task_id=task_id, is_checked=is_checked
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._settle(task_id, command)
        except TimeoutError as error:
            raise PublishUnknown(
                f"no answer within {timeout_s:g} s: task {task_id} may or may not have been accepted."
                " Submit it again with the same key or id; that is safe. If it goes on like that, see"
                " `fleetlog doctor` and whether the server's disk is full"
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
        try:
            async for spec in _each(specs):
                while window and (len(window) >= in_flight_max or window[0][2].done()):
                    async for submitted in self._settle_first(window):
                        yield submitted
                task_id, command = await self._prepare(spec, is_checked=is_checked)
                window.append((task_id, command, self._append_first(task_id, command)))
            while window:
                async for submitted in self._settle_first(window):
                    yield submitted
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
        barrier_id = key_id(key) if key is not None else self.fleet.system.new_id()
        plan = fan_out.plan(barrier_id)
        await self._check_plan(plan, is_checked=is_checked)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._open(barrier_id, plan)
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
        return await self._wait(barrier_id, lambda: self._barrier_end(barrier_id))

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
        follows: str | None = check_id(task_id, "task id")
        async with asyncio.timeout(seconds_of(timeout)):
            while True:
                current = follows
                is_follower = current != task_id
                look = partial(self._settled, current, is_follower=is_follower)
                settled = await self._wait(current, look)
                if (fan_out := _fan_out_of(settled)) is None:
                    outcome = outcome_of(task_id, settled)
                    break
                if fan_out.then is None:
                    ended = await self.barrier_end(current)
                    outcome = msgspec.structs.replace(ended, task_id=task_id)
                    break
                follows = fan_out.then.task_id
            if not is_fetched:
                return outcome
            return await self._wait(task_id, partial(with_result, outcome, self.fleet.objects))

    async def _settled(self, task_id: str, *, is_follower: bool = False) -> TerminalEvent | None:
        """The task's terminal event; a follower is not there as long as nobody has made it."""
        last = await self.fleet.log.last(guard(self.fleet.name, "task", task_id))
        if last is None and not is_follower:
            raise self._not_found(task_id)
        event = open_stored(last).event if last is not None else None
        return event if isinstance(event, TerminalEvent) else None

    async def _barrier_end(self, barrier_id: str) -> Outcome | None:
        last = await self.fleet.log.last(guard(self.fleet.name, "barrier", barrier_id))
        event = open_stored(last).event if last is not None else None
        return barrier_outcome(barrier_id, event)

    async def _check_plan(self, plan: FanOutSpec, *, is_checked: bool) -> None:
        for member in (*plan.members, *((plan.then,) if plan.then is not None else ())):
            if member.spec is None:
                await self._settled(member.task_id)
            elif is_checked:
                await self._check(member.spec, member.task_id)

    async def _open(self, barrier_id: str, plan: FanOutSpec) -> FannedOut:
        digest = plan_digest(plan)
        small = await store_plan(self.fleet.objects, plan)
        event = BarrierOpened(
            id=self.fleet.system.new_id(),
            occurred_at=self.fleet.log.now(),
            fan_out=small,
            digest=digest,
        )
        await self.fleet.room.check(small)
        subject = Subject(self.fleet.name, "barrier", barrier_id, verb_of(event))
        try:
            seq = await self.fleet.log.append(entry(subject, 0, event))
        except ConflictError:
            return await self._opened_before(barrier_id, plan, digest)
        await make_members(self.fleet, barrier_id, plan)
        return FannedOut(self, barrier_id, seq, plan, is_duplicate=False)

    async def _opened_before(self, barrier_id: str, plan: FanOutSpec, digest: str) -> FannedOut:
        stored = await self.fleet.log.read_thing(guard(self.fleet.name, "barrier", barrier_id))
        first = open_stored(stored[0]).event
        if not isinstance(first, BarrierOpened) or first.digest != digest:
            raise KeyTaken(
                f"fan-out {barrier_id} exists with other members or another continuation: use another key,"
                f" or see `fleetlog barrier show {barrier_id}`"
            )
        return FannedOut(self, barrier_id, stored[0].seq, plan, is_duplicate=True)

    async def _wait(self, about: str, look: Callable[[], Awaitable[T | None]]) -> T:
        """What `look` gives, tried again with each hint about a thing, through restarts of the server."""
        changed = asyncio.Event()
        async with self.fleet.hints.listen(about, lambda _id, _seq: changed.set()):
            while True:
                changed.clear()
                try:
                    if (found := await look()) is not None:
                        return found
                except Unavailable as error:
                    if self.fleet.link.is_connected:
                        logger.warning(
                            "the log does not answer, trying again until it does: %s", error
                        )
                    await self.fleet.link.wait_connected()
                    await _wait_for(changed, AGAIN_S)
                    continue
                await _wait_for(changed, POLL_S)

    async def outcome(self, task_id: str, *, is_fetched: bool = True) -> Outcome | None:
        """The task's outcome, None while it has not settled.

        Args:
            task_id: the task.
            is_fetched: also get a result that was too large for the event; else `result_ref` says where it is.

        Raises:
            TaskNotFound: there is no such task.
            ObjectLost: it completed, but its stored result is missing or damaged.
        """
        current = check_id(task_id, "task id")
        if (settled := await self._settled(current)) is None:
            return None
        while (fan_out := _fan_out_of(settled)) is not None:
            if fan_out.then is None:
                ended = await self._barrier_end(current)
                return ended and msgspec.structs.replace(ended, task_id=task_id)
            current = fan_out.then.task_id
            if (settled := await self._settled(current, is_follower=True)) is None:
                return None
        outcome = outcome_of(task_id, settled)
        return await with_result(outcome, self.fleet.objects) if is_fetched else outcome

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

    async def get(self, task_id: str) -> History:
        """The task and all its events.

        Raises:
            TaskNotFound: there is no such task.
        """
        check_id(task_id, "task id")
        stored = await self.fleet.log.read_thing(guard(self.fleet.name, "task", task_id))
        if not stored:
            raise self._not_found(task_id)
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
        task_id = self._choose_id(spec, task_id)
        if is_checked:
            await self._check(spec, task_id)
        # Of the whole payload, so that wherever it stands the same work is the same task.
        digest = payload_digest(spec)
        if is_large := len(memoryview(spec.args)) > INLINE_MAX_BYTES:
            args = bytes(spec.args)
            spec = msgspec.structs.replace(spec, args=NO_ARGS, args_ref=ref_of(args))
        await self.fleet.room.check(spec)
        if is_large and is_stored:
            # Before the event that names it.
            await self.fleet.objects.put(args)
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

    def _not_found(self, task_id: str) -> TaskNotFound:
        return TaskNotFound(
            f"there is no task {task_id} in fleet {self.fleet.name}; `fleetlog task list` shows what there is"
        )

    async def _read(self, task_id: str) -> list[Stored]:
        return await self.fleet.log.read_thing(guard(self.fleet.name, "task", task_id))

    async def _check(self, spec: TaskSpec, task_id: str) -> None:
        try:
            await self.handlers.check(spec)
        except (HandlerUnknown, InvalidInput):
            # What was accepted once is the same task for ever, whatever its handler takes by now.
            if await self.fleet.log.last(guard(self.fleet.name, "task", task_id)) is None:
                raise

    def _choose_id(self, spec: TaskSpec, task_id: str | None) -> str:
        if spec.key is not None:
            if task_id is not None:
                raise InvalidInput("give a key or a task id, not both")
            return key_id(spec.key)
        return check_id(task_id, "task id") if task_id is not None else self.fleet.system.new_id()


def _fan_out_of(event: TerminalEvent) -> FanOutSpec | None:
    return event.fan_out if isinstance(event, TaskCompleted) else None


async def _each(specs: Iterable[TaskSpec] | AsyncIterable[TaskSpec]) -> AsyncIterator[TaskSpec]:
    if isinstance(specs, AsyncIterable):
        async for spec in specs:
            yield spec
    else:
        for spec in specs:
            yield spec


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
