"""Hands the logs of worlds and of real fleets to the judge of `tests/simulation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from simulation.invariants import Judge, Message, Tolerance

from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.envelope import Stored

ANY_LAG: Final = Tolerance(lag_ms=10**9)
"""The coordinators of random schedules act on what they read any time ago."""
REAL: Final = Tolerance(skew_ms=250)
"""Processes on one busy machine, each with its own idea of the server's time."""


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


async def check_fleet(fleet: Fleet, **how: Any) -> None:
    """Nothing is wrong with a real fleet's log, as far as it goes; see `check_log`."""
    log = [stored async for page in fleet.log.read() for stored in page]
    check_log(log, **{"tolerance": REAL, **how})
