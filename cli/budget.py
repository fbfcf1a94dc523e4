"""`fleetlog budget`: what everything under a key may use of money, tokens and time."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from fleetlog.bus.bounds import set_budget
from fleetlog.bus.core.budgets import BudgetState
from fleetlog.cli.actor import ReasonOption, actor
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.bounds import budget_of, usd_text
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.durations import format_duration
from fleetlog.schemas.events import BudgetSet
from fleetlog.schemas.ids import key_token

app = plain_typer(no_args_is_help=True)

_QUESTION: Final = """
SELECT key, task_id, state, action, cost_usd::DOUBLE AS cost_usd, tokens, wall_ms,
    spent_cost_usd::DOUBLE AS spent_cost_usd, spent_tokens, spent_wall_ms, open_tasks, exhausted_resource,
    exhausted_at, set_at, actor, reason
FROM budgets ORDER BY coalesce(exhausted_at, set_at) DESC NULLS LAST, key
"""


@app.callback()
def _budget() -> None:
    """Set and list budgets: what tasks may use of money, tokens and time.

    A task names budgets with --budget KEY, or gets one of its own with --tree-budget usd=5, whose key is the
    task's id. What tasks lead to counts on the budgets of the task that led to it: fan-outs, continuations,
    what was spawned.

    Example: fleetlog budget list
    """


@app.command("set")
def set_one(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="The budget's name, or the id of a task with its own."),
    ],
    *,
    usd: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="US dollars, such as 2.50.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens read and written, such as 500k or 2M.")
    ] = None,
    wall: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The time that attempts ran, added up."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            "--then",
            metavar="ACTION",
            help="When an amount is used up: warn (say so in the log), hold (no further attempt starts until"
            " it is raised) or stop (cancel every task under it).",
            show_default="hold",
        ),
    ] = None,
    is_reset: Annotated[
        bool, typer.Option("--reset", help="What was used before does not count any more.")
    ] = False,
    reason: ReasonOption = None,
    is_json: JsonOption = False,
) -> None:
    """Set a budget; the amounts that were set before are replaced, what was used still counts.

    It is noticed when an attempt ends: what runs then may go beyond it by its own cost. Raising a budget lets
    what it held go on.

    Examples:
      fleetlog budget set nightly --usd 20 --then stop
      fleetlog budget set research --tokens 5M --wall 10h
      fleetlog budget set nightly --usd 20 --reset
    """
    key_token(key)
    budget = budget_of(usd=usd, tokens=tokens, wall=wall, action=action)
    state = run(_set(ctx, key, budget, is_reset=is_reset, reason=reason))
    assert state.budget is not None
    if is_json:
        write_json({"key": key, **_amounts(state.budget), "is_reset": is_reset})
    else:
        say(f"budget {key}: {_text(_amounts(state.budget))}, then {state.budget.action}")


@app.command("list")
def list_budgets(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """List budgets: the amounts, what was used of them, and how many tasks are open under each.

    Example: fleetlog budget list
    """
    rows = run(_rows(ctx))
    if is_json:
        write_json(rows)
    elif rows:
        write_table(
            ("budget", "state", "used", "of", "then", "open tasks"), [_row(row) for row in rows]
        )
    else:
        say("no budget was ever set: `fleetlog budget set KEY --usd 5` sets one")


async def _set(
    ctx: typer.Context, key: str, budget: Budget, *, is_reset: bool, reason: str | None
) -> BudgetState:
    async with connected(ctx) as client:
        fleet = client.fleet
        event = BudgetSet(
            id=fleet.system.new_id(),
            occurred_at=fleet.log.now(),
            actor=actor(),
            reason=reason,
            key=key,
            budget=budget,
            is_reset=is_reset,
        )
        return await set_budget(fleet, event)


async def _rows(ctx: typer.Context) -> list[dict[str, Any]]:
    async with connected(ctx) as client:
        _, rows = await ask_rows(client.fleet.services, _QUESTION, is_fresh=True)
        return rows


def _amounts(budget: Budget) -> dict[str, Any]:
    cost = budget.cost_micro_usd
    return {
        "cost_usd": None if cost is None else cost / 1_000_000,
        "tokens": budget.tokens,
        "wall_ms": budget.wall_ms,
        "action": budget.action,
    }


def _text(row: dict[str, Any], *, prefix: str = "", of: dict[str, Any] | None = None) -> str:
    """The amounts in words; of those that `of` bounds, if given."""
    bounded, parts = of or row, []
    if bounded["cost_usd"] is not None:
        parts.append(usd_text(round(row[f"{prefix}cost_usd"] * 1_000_000)))
    if bounded["tokens"] is not None:
        parts.append(f"{row[f'{prefix}tokens']} tokens")
    if bounded["wall_ms"] is not None:
        parts.append(format_duration(row[f"{prefix}wall_ms"]))
    return ", ".join(parts)


def _row(row: dict[str, Any]) -> list[str]:
    state = row["state"]
    if state == "exhausted":
        state = f"used up ({row['exhausted_resource']})"
    used = _text(row, prefix="spent_", of=row)
    return [row["key"], state, used, _text(row), row["action"], str(row["open_tasks"])]
