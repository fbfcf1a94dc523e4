"""Bugs in schedules."""

from __future__ import annotations

from simulation.planted.bug import Bug, typed

_SCHEDULE = "fleetlog.bus.core.schedule"

BUGS = (
    Bug(
        "a schedule is paused again",
        {"schedule.life": 0},
        typed(
            "fleetlog.bus.schedules:change_schedule",
            ("if schedule.status == status:", 'if schedule.status == status == "removed":'),
        ),
    ),
    Bug(
        "a task names its schedule as its cause, not the rule",
        {"schedule.task": 0},
        typed("fleetlog.bus.scheduling:_first_append", ("cause=rule.id", "cause=schedule.name")),
    ),
    Bug(
        "an interval counts from the very microsecond",
        {"schedule.instant": 0},
        typed(
            f"{_SCHEDULE}:_next_of_interval",
            (
                "set_at.replace(microsecond=set_at.microsecond // precision_us * precision_us)",
                "set_at",
            ),
        ),
    ),
    Bug(
        "a schedule takes the end of an earlier task for that of the last",
        {"schedule.overlap": 25},
        typed(f"{_SCHEDULE}:after_firing", (", last_settled_at=None", "")),
    ),
    Bug(
        "every other instant is left out",
        {"schedule.owed": 0},
        typed(
            f"{_SCHEDULE}:_next_of_interval",
            ("(after - anchor) // every + 1", "(after - anchor) // every + 2"),
        ),
    ),
)
