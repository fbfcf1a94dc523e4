"""What a planted bug is, and how the real code is changed for a while."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from textwrap import dedent
from typing import Any, NamedTuple

from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

Plant = Callable[[MonkeyPatch], None]


class Bug(NamedTuple):
    """One of them."""

    name: str
    """What is wrong, for people."""
    rules: Mapping[str, int]
    """The rules that must be seen to be broken, each with a seed that is known to show it: tried first."""
    plant: Plant
    """Makes it."""


def typed(place: str, *changes: tuple[str, str]) -> Plant:
    """A function of the real code as someone else might have typed it.

    Args:
        place: `module:name` or `module:Class.name`.
        changes: what stands there, once in the function, and what stands there instead.
    """

    def plant(patch: MonkeyPatch) -> None:
        function = _function_at(place)
        source = dedent(inspect.getsource(function))
        for right, wrong in changes:
            assert source.count(right) == 1, f"{place} does not say {right!r} once any more"
            source = source.replace(right, wrong)
        # Its code, not itself: others hold it by names of their own.
        patch.setattr(function, "__code__", _compiled(source, function).__code__)

    return plant


def _function_at(place: str) -> Any:
    module, _, names = place.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = found.__dict__[name]
    return _bare(found)


def _compiled(source: str, function: Any) -> Any:
    # Like this module it does not evaluate annotations.
    code = compile(source, function.__code__.co_filename, "exec")
    made: dict[str, Any] = {}
    exec(code, function.__globals__, made)
    return _bare(made[function.__name__])


def _bare(found: Any) -> Any:
    return found.fget if isinstance(found, property) else found
