"""Bugs in what has to be waited for."""

from __future__ import annotations

from simulation.planted.bug import Bug, typed

_DECIDE = "fleetlog.bus.core.decide"
_EVOLVE = "fleetlog.bus.core.evolve"


BUGS = (
    Bug(
        "a retry does not wait",
        {"wait.retry": 1},
        typed(
            f"{_EVOLVE}:_waiting",
            ("instant_after(record.stored_at, event.delay_ms)", "record.stored_at"),
        ),
    ),
    Bug(
        "a delay is not waited for",
        {"wait.delay": 1},
        typed(
            f"{_EVOLVE}:_held",
            ("instant_after(record.stored_at, event.spec.delay_ms)", "record.stored_at"),
        ),
    ),
    Bug(
        "a host has seconds taken for milliseconds",
        {"wait.affinity": 1},
        typed(
            "fleetlog.bus.core.task:Task.moves_at",
            ("self.spec.affinity_ms)", "self.spec.affinity_ms // 1_000)"),
        ),
    ),
    Bug(
        "time runs out a second early",
        {"wait.expiry": 1},
        typed(
            f"{_DECIDE}:_is_past",
            ("instant_after(start, limit_ms)", "instant_after(start, limit_ms - 1_000)"),
        ),
    ),
    Bug(
        "a claim does not ask whether it is too late",
        {"wait.no_late_start": 2},
        typed(
            f"{_DECIDE}:_claim",
            (
                "return _expired(command, task, now, limit) if limit else _claimed",
                "return _claimed",
            ),
        ),
    ),
)
