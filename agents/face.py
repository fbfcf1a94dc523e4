"""The Python face of agents: `Agent` and what handlers use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypedDict, TypeVar, Unpack, overload

import msgspec

from fleetlog.agents.answers import Cancel, NeedInput, PermanentError, Retry, duration_ms
from fleetlog.agents.context import Context
from fleetlog.agents.handlers import Handler
from fleetlog.bus.call import DECLARED, TaskOptions
from fleetlog.bus.errors import ConfigError
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import Backoff, check_spec
from fleetlog.schemas.subjects import Priority

__all__ = ["Agent", "Cancel", "Context", "NeedInput", "PermanentError", "Retry", "TaskSettings"]

_Function = TypeVar("_Function", bound=Callable[..., object])

Duration = str | float | None
"""Text such as `30s`, or seconds; None: no limit."""


class TaskSettings(TypedDict, total=False):
    """What `@agent.task(…)` takes; each is the default for the handler's tasks."""

    name: str
    """The handler's name; the function's if not given."""
    queue: str
    """The queue it is offered on: `default`."""
    priority: Priority
    """`high`, `normal` (if not given) or `low`."""
    labels: Mapping[str, str]
    """For people and SQL."""
    max_attempts: int
    """How many attempts may fail: 3."""
    backoff: Backoff
    """The wait between them: 1 s doubling to 5 min."""
    timeout: Duration
    """From claimed to the end of the attempt: `1h`."""
    start_within: Duration
    """From queued to claimed: no limit."""
    silence: Duration
    """Without output or another sign of life: no limit."""
    expires: Duration
    """From submitted to settled: no limit."""
    requires: Mapping[str, str]
    """Labels that its agents must have: none."""


class Agent:
    """A set of handlers; `fleetlog agent --app module:agent` runs them."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """By name."""
        return MappingProxyType(self._handlers)

    def schemas(self) -> dict[str, bytes]:
        """By handler, the JSON Schema of its arguments.

        Raises:
            ConfigError: a handler's parameters cannot be filled from a JSON object.
        """
        return {name: handler.signature.schema for name, handler in self._handlers.items()}

    @overload
    def task(self, function: _Function, /) -> _Function: ...

    @overload
    def task(self, /, **settings: Unpack[TaskSettings]) -> Callable[[_Function], _Function]: ...

    def task(
        self, function: _Function | None = None, /, **settings: Unpack[TaskSettings]
    ) -> _Function | Callable[[_Function], _Function]:
        """Makes a function, async or not, a handler; the function itself stays as it is.

        Raises:
            ConfigError: the name is taken.
            InvalidInput: a setting is not allowed.
        """
        if function is not None:
            return self._add(function, settings)
        return lambda decorated: self._add(decorated, settings)

    def _add(self, function: _Function, settings: TaskSettings) -> _Function:
        name = settings.get("name", getattr(function, "__name__", ""))
        options = _options(name, settings)
        check_spec(options.spec())
        if name in self._handlers:
            raise ConfigError(f"there is a handler {name!r} already: give one of them another name")
        handler = self._handlers[name] = Handler(function, options)
        setattr(function, DECLARED, handler)
        return function


def _options(name: str, settings: TaskSettings) -> TaskOptions:
    fields: dict[str, object] = {}
    for key, value in settings.items():
        if key in ("timeout", "start_within", "silence", "expires"):
            assert value is None or isinstance(value, str | int | float)
            fields[f"{key}_ms"] = None if value is None else duration_ms(value, key)
        elif key in TaskSettings.__annotations__:
            fields[key] = value
        else:
            raise ConfigError(f"@agent.task has no setting {key!r}")
    try:
        return msgspec.convert({**fields, "name": name}, TaskOptions, from_attributes=True)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"handler {name!r} has a setting that is not allowed: {error}"
        ) from error
