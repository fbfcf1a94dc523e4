"""Options that several commands share: each takes them as one parameter, and typer sees every one of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, get_type_hints

import msgspec

R = TypeVar("R")


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Some options: each field is annotated as typer wants it, and has a default."""


def grouped(command: Callable[..., R]) -> Callable[..., R]:
    """Makes options of the fields of each parameter that is a `Group`, and a group again of what was said."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if _is_group(kind)}
    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            parameters += _options_of(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    @wraps(command)
    def spread(**said: Any) -> R:
        for name, group in groups.items():
            own = {each: said.pop(each) for each in group.__struct_fields__ if each in said}
            said[name] = group(**own)
        return command(**said)

    # What `wraps` leaves behind leads to the command's own parameters.
    del spread.__wrapped__
    spread.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # read by typer
    spread.__annotations__ = {each.name: each.annotation for each in parameters}
    return spread


def _is_group(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Group)


def _options_of(group: type[Group]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in msgspec.structs.fields(group)
    ]
