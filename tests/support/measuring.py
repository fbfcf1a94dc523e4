"""What of a test run coverage measures.

Its tracer makes Python slower by half and more, and a process that it measures takes as long again to start. So
of the processes that tests start only the first of each kind is measured, and what computes a lot is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager

from coverage import Coverage

MEASURED_MAX = 1
"""So many processes of a kind are measured, in each process of pytest."""

_started: Counter[Hashable] = Counter()


def measured_at_first(environ: Mapping[str, str], *kind: Hashable) -> dict[str, str]:
    """The environment of a process; coverage learns little from the second one of a kind."""
    _started[kind] += 1
    return dict(environ) if _started[kind] <= MEASURED_MAX else unmeasured(environ)


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
