"""Small logs for every rule: some that are right, and some that break that very rule.

Written by hand, so that the rules are not tested by what they are to judge.
"""

from __future__ import annotations

from simulation.cases import (
    agents,
    barriers,
    bounds,
    claims,
    followers,
    log,
    quiet,
    schedules,
    tasks,
    waits,
)
from simulation.cases.case import Case

CASES: list[Case] = [
    *log.CASES,
    *tasks.CASES,
    *waits.CASES,
    *claims.CASES,
    *bounds.CASES,
    *barriers.CASES,
    *followers.CASES,
    *schedules.CASES,
    *agents.CASES,
    *quiet.CASES,
]
