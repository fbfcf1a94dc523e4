"""A rule, what is right by it, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from simulation.invariants import Tolerance
from simulation.writing import Log

Write = Callable[[Log], object]


class Bad(NamedTuple):
    """A log that breaks a rule."""

    write: Write
    also: frozenset[str] = frozenset()
    """Other rules that such a log can't but break."""


class Case(NamedTuple):
    """One rule."""

    rule: str
    good: tuple[Write, ...]
    bad: tuple[Bad | Write, ...]
    is_quiet: bool = False
    """Judged as a run that came to rest."""
    tolerance: Tolerance = Tolerance()
    allowed_open: tuple[str, ...] = ()
    objects: Mapping[str, bytes] = {}


def bad(write: Write, *also: str) -> Bad:
    """A log that breaks further rules, too."""
    return Bad(write, frozenset(also))
