"""What of a test run coverage measures.

Its tracer makes Python slower by half and more, and a process that it measures takes as long again to start. So
of the processes that tests start only the first of each kind is measured, and what computes a lot is not.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager

from coverage import Coverage

_known: set[Hashable] = set()
"""By process of pytest."""


def is_first(*kind: Hashable) -> bool:
    """Whether none of a kind was before it."""
    if kind in _known:
        return False
    _known.add(kind)
    return True


def measured_at_first(environ: Mapping[str, str], *kind: Hashable) -> dict[str, str]:
    """The environment of a process; coverage learns little from the second one of a kind."""
    return dict(environ) if is_first(*kind) else unmeasured(environ)


def unmeasured(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that coverage does not measure."""
    return {name: text for name, text in environ.items() if not name.startswith("COVERAGE_")}


@contextmanager
def not_measuring() -> Iterator[None]:
    """Coverage, if there is any, does not look at what this process does in the block."""
    coverage = Coverage.current()
    if coverage is None:
        yield
        return
    coverage.stop()
    try:
        yield
    finally:
        coverage.start()
