"""The acts that letting tasks in leads to."""

from __future__ import annotations

import msgspec

from fleetlog.bus.core.budgets import BudgetState
from fleetlog.bus.core.limits import Limit
from fleetlog.bus.core.task import Task


class Admit(msgspec.Struct, frozen=True):
    """Append these tasks' `queued` and the limits' `admitted`, all of it or none."""

    limits: tuple[Limit, ...]
    """In the version in which it was decided."""
    tasks: tuple[Task, ...]
    """They wait under the same limits."""


class Exhaust(msgspec.Struct, frozen=True):
    """Append that a budget is used up."""

    state: BudgetState


AdmissionAct = Admit | Exhaust
