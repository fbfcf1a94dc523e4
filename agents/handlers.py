"""Handlers: functions whose arguments are checked against their annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, get_type_hints

import msgspec

from fleetlog.agents.context import Context
from fleetlog.bus.call import TaskOptions
from fleetlog.bus.errors import ConfigError
from fleetlog.schemas.errors import InvalidInput


class Signature(msgspec.Struct, frozen=True):
    """A handler's parameters."""

    decoder: msgspec.json.Decoder[Any]
    """Reads the arguments into a struct with a field per parameter."""
    names: tuple[str, ...]
    """The parameters that arguments fill."""
    required: frozenset[str]
    """Those without a default."""
    context_name: str | None
    """The parameter annotated `Context`."""
    schema: bytes
    """The arguments' JSON Schema."""


class Handler:
    """A function that runs tasks.

    Annotations are read when they are first needed, so that they may name what is defined further down.
    """

    def __init__(self, function: Callable[..., object], options: TaskOptions) -> None:
        self.function = function
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)

    @property
    def name(self) -> str:
        """The handler's."""
        return self.options.name

    @cached_property
    def signature(self) -> Signature:
        """Its parameters.

        Raises:
            ConfigError: they cannot be filled from a JSON object; says which and why.
        """
        return _read_signature(self.function, self.name)

    def arguments(self) -> Mapping[str, bool]:
        """By name, whether the argument must be given."""
        return {name: name in self.signature.required for name in self.signature.names}

    def read(self, args: bytes) -> dict[str, object]:
        """The keyword arguments out of a JSON object.

        Raises:
            InvalidInput: names the field and what is wrong with it.
        """
        try:
            values = self.signature.decoder.decode(args)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"the arguments do not fit handler {self.name}: {error}") from error
        return {name: getattr(values, name) for name in self.signature.names}


def _read_signature(function: Callable[..., object], name: str) -> Signature:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"handler {name}: an annotation cannot be read: {error}") from error
    parameters = inspect.signature(function).parameters.values()
    context_names = [each.name for each in parameters if hints.get(each.name) is Context]
    taken = [_check(each, name) for each in parameters if each.name not in context_names]
    if len(context_names) > 1:
        raise ConfigError(f"handler {name} has more than one Context: keep one")
    fields = [_field(each, hints.get(each.name, Any)) for each in taken]
    try:
        struct = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        decoder = msgspec.json.Decoder(struct)
        schema = msgspec.json.encode(msgspec.json.schema(struct))
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(
            f"handler {name}: its arguments cannot be read from JSON: {error}"
        ) from error
    return Signature(
        decoder=decoder,
        names=tuple(each.name for each in taken),
        required=frozenset(each.name for each in taken if each.default is each.empty),
        context_name=context_names[0] if context_names else None,
        schema=schema,
    )


def _check(parameter: inspect.Parameter, name: str) -> inspect.Parameter:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ConfigError(
            f"handler {name}: {parameter} takes no argument by name: give each argument a name"
        )
    return parameter


def _field(parameter: inspect.Parameter, annotation: Any) -> tuple[str, Any] | tuple[str, Any, Any]:
    if parameter.default is parameter.empty:
        return parameter.name, annotation
    # A factory, because msgspec refuses mutable defaults that Python takes.
    default = msgspec.field(default_factory=lambda: parameter.default)
    return parameter.name, annotation, default
