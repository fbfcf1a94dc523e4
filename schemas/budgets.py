"""What a task tree, or everything under one key, may use."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleetlog.schemas.errors import InvalidInput

AMOUNT_MAX: Final = 2**53 - 1
"""The largest whole number that every reader of JSON gets right."""

Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]
Resource = Literal["tokens", "cost", "wall"]
"""Tokens read and written; money; time that attempts ran."""

Action = Literal[
    "warn",  # it is said in the log, and nothing stops
    "hold",  # no further attempt starts until the budget is raised; what runs goes on
    "stop",  # every task under it is cancelled, and so is what comes later
]


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Amounts that may be used, and what follows when one of them is. None: without a bound."""

    tokens: Amount | None = None
    """Tokens read and written."""
    cost_micro_usd: Amount | None = None
    """Millionths of a US dollar."""
    wall_ms: Amount | None = None
    """The time that attempts ran, added up."""
    action: Action = "hold"
    """What follows."""


class Spent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was used so far, as ends of attempts tell."""

    tokens: int = 0
    """Tokens read and written."""
    cost_micro_usd: int = 0
    """Millionths of a US dollar."""
    wall_ms: int = 0
    """The time that attempts ran, added up."""

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(
            tokens=self.tokens + other.tokens,
            cost_micro_usd=self.cost_micro_usd + other.cost_micro_usd,
            wall_ms=self.wall_ms + other.wall_ms,
        )


def exhausted(budget: Budget, spent: Spent) -> Resource | None:
    """The first of the budget's amounts that is used up."""
    if budget.cost_micro_usd is not None and spent.cost_micro_usd >= budget.cost_micro_usd:
        return "cost"
    if budget.tokens is not None and spent.tokens >= budget.tokens:
        return "tokens"
    if budget.wall_ms is not None and spent.wall_ms >= budget.wall_ms:
        return "wall"
    return None


def check_budget(budget: Budget) -> Budget:
    """Returns `budget` if it bounds something.

    Raises:
        InvalidInput: it bounds nothing.
    """
    if (budget.tokens, budget.cost_micro_usd, budget.wall_ms) == (None, None, None):
        raise InvalidInput("a budget needs an amount: tokens, money or time")
    return budget
