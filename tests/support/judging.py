"""Hands the logs of worlds and of real fleets to the judge of `tests/simulation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from simulation.invariants import Judge, Message, Tolerance

from fleetlog.schemas.envelope import Stored

ANY_LAG: Final = Tolerance(lag_ms=10**9)
"""The coordinators of random schedules act on what they read any time ago."""


def check_log(
    log: Iterable[Stored],
    *,
    tolerance: Tolerance = ANY_LAG,
    objects: Mapping[str, bytes] | None = None,
    **end: Any,
) -> None:
    """Nothing is wrong with the log.

    Args:
        log: all of it.
        tolerance: what is forgiven.
        objects: all that ever stood in the object store, by digest.
        end: see `Judge.end`.
    """
    judge = Judge(tolerance=tolerance, objects=objects)
    for stored in log:
        judge.take(Message(stored.seq, stored.stored_at_ns, stored.subject, stored.data))
    judge.end(**end)
    assert judge.violations == [], judge.violations
