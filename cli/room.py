"""Which limit or budget has no room for a task, as the projection tells, or which credential is paused."""

from __future__ import annotations

from typing import Any, Final

from fleetlog.bus.client import Client
from fleetlog.bus.core import Task
from fleetlog.bus.core.credential import credential_of
from fleetlog.bus.credentials import load_credential
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.cli.asking import ask_rows, literal
from fleetlog.cli.bounds import usd_text
from fleetlog.cli.rendering import instant_text
from fleetlog.cli.requirements import agent_text
from fleetlog.schemas.durations import format_duration

_LIMITS: Final = """
SELECT key, concurrency, rate, per_ms, holders FROM limits
WHERE key IN ({keys}) AND (rate IS NOT NULL OR holders >= concurrency) ORDER BY key
"""
_BUDGETS: Final = """
SELECT key, exhausted_resource, cost_usd::DOUBLE AS cost_usd, tokens, wall_ms,
    spent_cost_usd::DOUBLE AS spent_cost_usd, spent_tokens, spent_wall_ms
FROM budgets WHERE key IN ({keys}) AND state = 'exhausted' AND action <> 'warn' ORDER BY key
"""


async def room_text(client: Client, task: Task) -> str:
    """Such as `limit github (3 of 3)`; its turn, or an agent that can run it, if nothing is full."""
    assert task.spec is not None
    try:
        limits = await _rows(client, _LIMITS, task.spec.limits)
        budgets = await _rows(client, _BUDGETS, task.budget_keys)
    except (Unavailable, ProjectionError):
        named = [f"limit {key}" for key in task.spec.limits]
        named += [f"budget {key}" for key in task.budget_keys]
        return f"{', '.join(named) or 'its turn'}; how far that is a projector would know"
    parts = [*map(_limit_text, limits), *map(_budget_text, budgets)]
    if (paused := await _credential_text(client, task)) is not None:
        parts.append(paused)
    if not parts and task.spec.requires:
        parts.append(await agent_text(client.fleet, task.spec))
    if not parts and task.spec.fair_key is not None:
        parts.append(f"the turn of fair key {task.spec.fair_key}")
    return ", ".join(parts) or "an agent with a free slot, or a coordinator"


async def _credential_text(client: Client, task: Task) -> str | None:
    assert task.spec is not None
    if (name := credential_of(task.spec)) is None:
        return None
    log = client.fleet.log
    known = await load_credential(log, name)
    if known.pause is None or not known.is_paused(log.now()):
        return None
    until = known.pause.until
    text = "someone resumes it" if until is None else instant_text(until)
    return f"credential {name}, which is paused until {text}"


async def _rows(client: Client, question: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    if not keys:
        return []
    named = ", ".join(map(literal, keys))
    _, rows = await ask_rows(client.fleet.services, question.format(keys=named), is_fresh=True)
    return rows


def _limit_text(row: dict[str, Any]) -> str:
    parts = []
    if row["concurrency"] is not None:
        parts.append(f"{row['holders']} of {row['concurrency']}")
    if row["rate"] is not None:
        parts.append(f"{row['rate']} starts in {format_duration(row['per_ms'])}")
    return f"limit {row['key']} ({', '.join(parts)})"


def _budget_text(row: dict[str, Any]) -> str:
    match row["exhausted_resource"]:
        case "cost":
            spent, amount = (_usd(row[name]) for name in ("spent_cost_usd", "cost_usd"))
        case "tokens":
            spent, amount = (f"{row[name]} tokens" for name in ("spent_tokens", "tokens"))
        case _:
            spent, amount = (format_duration(row[name]) for name in ("spent_wall_ms", "wall_ms"))
    return f"budget {row['key']} ({spent} of {amount})"


def _usd(usd: float) -> str:
    return usd_text(round(usd * 1_000_000))
