"""`call`: names a handler and its arguments; what it gives can be submitted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Final, Protocol, cast

import msgspec

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import (
    ATTEMPTS_DEFAULT,
    TIMEOUT_DEFAULT_MS,
    Backoff,
    TaskSpec,
    check_spec,
)
from fleetlog.schemas.subjects import Priority

DECLARED: Final = "__fleetlog_task__"
"""The attribute that `@agent.task` leaves on a function: a `Declared`."""


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler's author wants for each of its tasks; the fields are `TaskSpec`'s."""

    name: str
    """The handler's."""
    queue: str = "default"
    """The queue it is offered on."""
    priority: Priority = "normal"
    """Within the queue."""
    labels: dict[str, str] = {}
    """For people and SQL."""
    max_attempts: int = ATTEMPTS_DEFAULT
    """How many attempts may fail."""
    backoff: Backoff = Backoff()
    """The wait between them."""
    timeout_ms: int | None = TIMEOUT_DEFAULT_MS
    """From claimed to the end of the attempt."""
    start_within_ms: int | None = None
    """From queued to claimed."""
    silence_ms: int | None = None
    """Without a sign of life."""
    expires_ms: int | None = None
    """From submitted to settled."""
    limits: tuple[str, ...] = ()
    """It starts only while these limits have room."""
    requires: dict[str, str] = {}
    """Labels that its agents must have."""

    def spec(self, args: bytes = b"{}") -> TaskSpec:
        """A task of this handler; `args` is one JSON object."""
        return TaskSpec(
            handler=self.name,
            args=msgspec.Raw(args),
            queue=self.queue,
            priority=self.priority,
            labels=self.labels,
            max_attempts=self.max_attempts,
            backoff=self.backoff,
            timeout_ms=self.timeout_ms,
            start_within_ms=self.start_within_ms,
            silence_ms=self.silence_ms,
            expires_ms=self.expires_ms,
            limits=self.limits,
            requires=self.requires,
        )


class Declared(Protocol):
    """What a decorated function knows of itself."""

    @property
    def options(self) -> TaskOptions:
        """Its author's wishes."""
        ...

    def arguments(self) -> Mapping[str, bool]:
        """By name, whether the argument must be given."""
        ...


def call(handler: str | Callable[..., object], /, **args: object) -> TaskSpec:
    """A task that calls a handler with these keyword arguments.

    Given a function decorated with `@agent.task`, its options are the task's and the arguments' names are
    checked here; given a name, both are left to whoever accepts the task.

    Raises:
        InvalidInput: an argument is missing, unknown or cannot be written as JSON; the function is no task.
    """
    if isinstance(handler, str):
        return check_spec(TaskSpec(handler=handler, args=msgspec.Raw(_encode(handler, args))))
    declared = cast("Declared | None", getattr(handler, DECLARED, None))
    if declared is None:
        name = getattr(handler, "__name__", repr(handler))
        raise InvalidInput(
            f"{name} is not a task: decorate it with @agent.task or give its handler's name"
        )
    _check_names(declared.options.name, declared.arguments(), args)
    return check_spec(declared.options.spec(_encode(declared.options.name, args)))


def ask(prompt: str, /, *, executor: str = "claude", **arguments: object) -> TaskSpec:
    """A task for an agent CLI, as `fleetlog run --executor` makes it.

    Args:
        prompt: what it shall do.
        executor: which CLI.
        arguments: more that the executor takes, such as `model`, `max_budget_usd`, `keep_session`, `cwd`.

    Raises:
        InvalidInput: the prompt is empty, or an argument cannot be written as JSON.
    """
    if not prompt.strip():
        raise InvalidInput("the prompt is empty: say what shall be done")
    args = msgspec.Raw(_encode(executor, {"prompt": prompt, **arguments}))
    return check_spec(TaskSpec(executor=executor, handler=executor, args=args))


def near_names(name: str, known: Mapping[str, object]) -> str:
    """For error messages: `; did you mean a or b?`, else what there is."""
    if near := difflib.get_close_matches(name, known, n=3):
        return f"; did you mean {' or '.join(near)}?"
    if known:
        return f"; there is {', '.join(sorted(known)[:20])}"
    return "; there is none"


def _encode(handler: str, args: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(args)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"the arguments of {handler} cannot be written as JSON: {error}"
        ) from error


def _check_names(handler: str, expected: Mapping[str, bool], args: Mapping[str, object]) -> None:
    for name in args:
        if name not in expected:
            raise InvalidInput(f"{handler} has no argument {name!r}{near_names(name, expected)}")
    missing = [name for name, is_required in expected.items() if is_required and name not in args]
    if missing:
        raise InvalidInput(f"{handler} needs {', '.join(missing)}: give it by name")
