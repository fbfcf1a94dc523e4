"""Bugs, each planted into the real code for a while: the simulator must find every one of them."""

from simulation.planted import barriers, bounds, claims, schedules, tasks, waits
from simulation.planted.bug import Bug

__all__ = ["BUGS", "UNPLANTED", "Bug"]

BUGS = (
    *tasks.BUGS,
    *claims.BUGS,
    *waits.BUGS,
    *bounds.BUGS,
    *barriers.BUGS,
    *schedules.BUGS,
)

UNPLANTED = {
    "log.sequence": "The server numbers the messages.",
    "bound.losses": "No task loses its agent three times in so short a run.",
    "claim.grows": "A fence is the sequence of its claim, and that is the server's.",
    "wait.again": "An offer that moves to its host again breaks it, but for ever: such a run takes minutes.",
    "budget.end": "A run can't end under a budget that is used up: before, all get new amounts.",
}
"""Rules that no bug here stands for, and why."""
