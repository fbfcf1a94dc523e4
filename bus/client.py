"""The client: submit tasks, wait for their outcomes, cancel them, look at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypedDict, Unpack, cast

import msgspec

from fleetlog.bus.core import Refusal, RequestCancel, Submit, Task, evolve
from fleetlog.bus.embedded.runtime import Target, resolve_target
from fleetlog.bus.errors import (
    AlreadySettled,
    FleetlogError,
    HandlerUnknown,
    KeyTaken,
    PublishUnknown,
    Refused,
    TaskNotFound,
    Unavailable,
)
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.handler_catalog import HandlerCatalog
from fleetlog.bus.rules import Decided, execute, load_task
from fleetlog.bus.settings import Overrides, Settings, load_settings
from fleetlog.bus.system import System
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.envelope import Recorded, open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import (
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TerminalEvent,
    verb_of,
)
from fleetlog.schemas.ids import check_id, key_id
from fleetlog.schemas.specs import TaskSpec, check_spec, payload_digest
from fleetlog.schemas.subjects import Priority, guard

POLL_S = 2.0
"""How often a waiting client looks at the log although no hint came."""

Duration = str | int | float
"""`"30s"`, or a number of seconds."""


class SubmitOptions(TypedDict, total=False):
    """What a submit may say differently from the spec; see `TaskSpec` for each."""

    queue: str
    priority: Priority
    labels: dict[str, str]
    max_attempts: int
    timeout: Duration | None
    start_within: Duration | None
    silence: Duration | None
    expires: Duration | None
    delay: Duration
    parent_id: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended."""

    task_id: str
    """Whose outcome."""
    state: str
    """`completed`, `failed`, `cancelled` or `expired`."""
    result: Any = None
    """The JSON value that a completed task gave."""
    error: str | None = None
    """Why it did not complete."""
    error_class: str | None = None
    """The kind of error."""
    attempts: int = 0
    """How many claims it took."""

    @property
    def is_completed(self) -> bool:
        """Whether it succeeded."""
        return self.state == "completed"


class History(msgspec.Struct, frozen=True):
    """A task and every event of it that the log holds."""

    task: Task
    """Its present state."""
    events: tuple[Recorded, ...]
    """In log order."""


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
            InvalidInput: the spec or an option is not allowed, or checked arguments do not fit; nothing was
                written.
            HandlerUnknown: checked, and no agent ever had the handler; nothing was written.
            KeyTaken: the key or id belongs to a task with another payload.
            PublishUnknown: no answer in time; the task may or may not be there. Submit it again with the
                same key or id, which is safe.
        """
        spec = with_options(spec, options)
        if key is not None:
            spec = msgspec.structs.replace(spec, key=key)
        check_spec(spec)
        task_id = self._choose_id(spec, task_id)
        if is_checked:
            await self._check(spec, task_id)
        command = Submit(id=self.fleet.system.new_id(), spec=spec, digest=payload_digest(spec))
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await execute(self.fleet.log, command, Task(id=task_id))
        except TimeoutError as error:
            raise PublishUnknown(
                f"no answer within {timeout_s:g} s: task {task_id} may or may not have been accepted."
                " Submit it again with the same key or id; that is safe"
            ) from error
        if isinstance(outcome, Decided):
            return Submitted(self, task_id, outcome.seq, is_duplicate=False)
        if outcome.code != "duplicate":
            raise as_error(outcome)
        first = await self.fleet.log.read_thing(guard(self.fleet.name, "task", task_id))
        return Submitted(self, task_id, first[0].seq, is_duplicate=True)

    async def submit_many(
        self, specs: Iterable[TaskSpec], *, in_flight_max: int = 2000, is_checked: bool = False
    ) -> list[Submitted]:
        """Submits tasks, many at once, and returns them in the order given.

        Not atomic: when it raises, those before may have been accepted; with keys in the specs it is safe to
        submit all again.

        Raises:
            InvalidInput: a spec is not allowed, or checked arguments do not fit.
            HandlerUnknown: checked, and no agent ever had one of the handlers.
            KeyTaken: a key belongs to a task with another payload, perhaps one of these.
        """
        slots = asyncio.Semaphore(in_flight_max)
        tasks: list[asyncio.Task[Submitted]] = []

        async def one(spec: TaskSpec) -> Submitted:
            try:
                return await self.submit(spec, is_checked=is_checked)
            finally:
                slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                for spec in specs:
                    await slots.acquire()
                    tasks.append(group.create_task(one(spec)))
        except* (FleetlogError, InvalidInput) as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def result(self, task_id: str, timeout: Duration | None = None) -> Outcome:
        """Waits for the task's outcome, through restarts of the server.

        Raises:
            TaskNotFound: there is no such task.
            TimeoutError: it has not settled within `timeout`; it goes on.
        """
        changed = asyncio.Event()
        async with (
            asyncio.timeout(_seconds(timeout)),
            self.fleet.hints.listen(lambda _id, _seq: changed.set(), task_id),
        ):
            while True:
                changed.clear()
                try:
                    if (outcome := await self.outcome(task_id)) is not None:
                        return outcome
                except Unavailable:
                    await self.fleet.link.wait_connected()
                    continue
                await _wait_for(changed, POLL_S)

    async def outcome(self, task_id: str) -> Outcome | None:
        """The task's outcome, None while it has not settled.

        Raises:
            TaskNotFound: there is no such task.
        """
        check_id(task_id, "task id")
        last = await self.fleet.log.last(guard(self.fleet.name, "task", task_id))
        if last is None:
            raise TaskNotFound(f"there is no task {task_id} in fleet {self.fleet.name}")
        event = open_stored(last).event
        if isinstance(event, TerminalEvent):
            return outcome_of(task_id, event)
        return None

    async def cancel(
        self, task_id: str, *, reason: str | None = None, actor: str | None = None
    ) -> None:
        """Ends the task: at once when it does not run, else its agent ends it and then it is cancelled.

        Asking again for the end of a task that is ending does nothing.

        Raises:
            TaskNotFound: there is no such task.
            AlreadySettled: it has its outcome.
        """
        check_id(task_id, "task id")
        command = RequestCancel(id=self.fleet.system.new_id(), reason=reason, actor=actor)
        task = await load_task(self.fleet.log, task_id)
        decided = await execute(self.fleet.log, command, task)
        if isinstance(decided, Decided):
            self.fleet.hints.publish(task_id, decided.seq)
        elif decided.code != "cancel_pending":
            raise as_error(decided)

    async def get(self, task_id: str) -> History:
        """The task and all its events.

        Raises:
            TaskNotFound: there is no such task.
        """
        check_id(task_id, "task id")
        stored = await self.fleet.log.read_thing(guard(self.fleet.name, "task", task_id))
        if not stored:
            raise TaskNotFound(f"there is no task {task_id} in fleet {self.fleet.name}")
        task = Task(id=task_id)
        events = tuple(open_stored(one) for one in stored)
        for event in events:
            task = evolve(task, event)
        return History(task, events)

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


def with_options(spec: TaskSpec, options: SubmitOptions) -> TaskSpec:
    """The spec with a submit's options.

    Raises:
        InvalidInput: an option is unknown or not a duration where it must be one.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name in ("timeout", "start_within", "silence", "expires", "delay"):
            fields[f"{name}_ms"] = (
                None if value is None else _milliseconds(cast("Duration", value), name)
            )
        elif name in SubmitOptions.__annotations__:
            fields[name] = value
        else:
            raise InvalidInput(
                f"unknown option {name!r}: use one of {', '.join(sorted(SubmitOptions.__annotations__))}"
            )
    return msgspec.structs.replace(spec, **fields) if fields else spec


def outcome_of(task_id: str, event: TerminalEvent) -> Outcome:
    """What a terminal event says."""
    result: Any = None
    error = error_class = None
    match event:
        case TaskCompleted():
            result = msgspec.json.decode(event.result)
        case TaskFailed():
            error, error_class = event.error, event.error_class
        case TaskExpired():
            limit = event.limit.replace("_", " ")
            error, error_class = f"its time ran out before it could run ({limit})", "expired"
        case _:
            error, error_class = event.reason or "cancelled", "cancelled"
    return Outcome(
        task_id=task_id,
        state=verb_of(event),
        result=result,
        error=error,
        error_class=error_class,
        attempts=event.attempts,
    )


def as_error(refusal: Refusal) -> Refused:
    """The exception for a refusal, with what to do next."""
    task = refusal.task
    match refusal.code:
        case "not_found":
            return TaskNotFound(
                f"there is no task {task.id}; `fleetlog task list` shows what there is"
            )
        case "key_taken":
            return KeyTaken(
                f"task {task.id} exists with another payload: use another key for other work,"
                f" or see `fleetlog task show {task.id}`"
            )
        case "already_settled":
            return AlreadySettled(f"task {task.id} is {task.status} already; nothing was changed")
        case _:
            return Refused(f"task {task.id} is {task.status}: {refusal.code.replace('_', ' ')}")


def _milliseconds(value: Duration, what: str) -> int:
    return parse_duration(value, what) if isinstance(value, str) else round(value * 1000)


def _seconds(value: Duration | None) -> float | None:
    return None if value is None else _milliseconds(value, "timeout") / 1000


async def _wait_for(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
