"""A budget: what everything under a key has used of the amounts that it may use."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from fleetlog.bus.core.task import Lease
from fleetlog.schemas.budgets import Budget, Resource, Spent, exhausted
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import AttemptEnd, BudgetExhausted, BudgetSet


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """A budget after `version`. Made by `evolve_budget` and `charge` alone."""

    id: str
    """How its key stands in subjects."""
    key: str = ""
    """Which; empty until an event tells."""
    version: int = 0
    """Log sequence of its last event: what the next append must state."""
    budget: Budget | None = None
    """Its amounts; None: never set."""
    spent: Spent = Spent()
    """What was used."""
    told: Budget | None = None
    """The amounts of which the log says already that one is used up."""

    @property
    def exhausted(self) -> Resource | None:
        """The amount that is used up."""
        return None if self.budget is None else exhausted(self.budget, self.spent)

    @property
    def is_holding(self) -> bool:
        """No further attempt starts under it."""
        return (
            self.budget is not None and self.budget.action != "warn" and self.exhausted is not None
        )

    @property
    def is_stopping(self) -> bool:
        """What is under it ends."""
        return self.is_holding and self.budget is not None and self.budget.action == "stop"


def evolve_budget(state: BudgetState, record: Recorded) -> BudgetState:
    """The budget after one of its own events; what is not understood changes the version alone."""
    if record.seq <= state.version:
        return state
    state = msgspec.structs.replace(state, version=record.seq)
    match event := record.event:
        case BudgetSet():
            spent = Spent() if event.is_reset else state.spent
            return msgspec.structs.replace(
                state, key=event.key, budget=event.budget, spent=spent, told=None
            )
        case BudgetExhausted():
            return msgspec.structs.replace(state, told=state.budget)
        case _:
            return state


def charge(state: BudgetState, spent: Spent) -> BudgetState:
    """The budget after an attempt under it."""
    return msgspec.structs.replace(state, spent=state.spent.plus(spent))


def spent_in(event: AttemptEnd, lease: Lease, stored_at: datetime) -> Spent:
    """What an attempt used. One that went down with its agent ran from its claim to this event.

    Args:
        event: its end.
        lease: its claim.
        stored_at: when the log stored its end.
    """
    usage, ran_ms = event.usage, event.ran_ms
    if ran_ms is None:
        ran_ms = (stored_at - lease.claimed_at) // timedelta(milliseconds=1)
    return Spent(
        tokens=usage.input_tokens + usage.output_tokens if usage else 0,
        cost_micro_usd=usage.cost_micro_usd if usage else 0,
        wall_ms=max(0, ran_ms),
    )
