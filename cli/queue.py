"""`fleetlog queue`: queues, and pausing them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import typer

from fleetlog.bus.client import Client
from fleetlog.bus.core.queues import QueueState
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.queues import read_queues, set_paused
from fleetlog.cli.actor import ReasonOption, actor
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.overview import AgentSeen, look_at_agents
from fleetlog.cli.pauses import describe_pause
from fleetlog.cli.rendering import instant_text, write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.requirements import requirements_text

app = plain_typer(no_args_is_help=True)

QueuesArgument = Annotated[list[str], typer.Argument(metavar="QUEUE...", help="Their names.")]

_COUNTS: Final = ("held", "queued", "claimed", "waiting")
_QUESTION: Final = f"""
SELECT d.*, coalesce(n.needs, []) AS needs
FROM (
    SELECT queue, {", ".join(f"sum({name})::BIGINT AS {name}" for name in _COUNTS)}
    FROM queue_depth GROUP BY queue
) AS d
LEFT JOIN (
    SELECT queue, list({{'requires': requires, 'tasks': tasks}}) AS needs
    FROM (
        SELECT queue, requires, sum(tasks)::BIGINT AS tasks
        FROM queue_requirements WHERE cardinality(requires) > 0
        GROUP BY ALL
    )
    GROUP BY queue
) AS n USING (queue)
"""  # noqa: S608 - names of our own


class QueueRow(msgspec.Struct, frozen=True, kw_only=True):
    """One queue."""

    queue: str
    """Its name."""
    is_paused: bool
    """Nobody takes its tasks."""
    paused_at: datetime | None
    """When it was last paused."""
    resumed_at: datetime | None
    """When it was last resumed."""
    actor: str | None
    """Who did the last of these."""
    reason: str | None
    """Why."""
    agents: int
    """How many that run serve it."""
    held: int | None
    """Tasks that wait for a delay; this and the following are None without a projector."""
    queued: int | None
    """Tasks on offer."""
    claimed: int | None
    """Tasks that run."""
    waiting: int | None
    """Tasks between two attempts."""
    needs: dict[str, int] | None
    """How many of all these require what of their agent, such as `gpu=yes`."""


@app.callback()
def _queue() -> None:
    """List, pause and resume queues.

    Example: fleetlog queue list
    """


@app.command("list")
def list_queues(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """List queues: whether they are paused, who serves them, what waits in them, and what it needs.

    All that have unsettled tasks, that an agent serves, or that were ever paused.

    Example: fleetlog queue list
    """
    run(_list(ctx, is_json=is_json))


@app.command()
def pause(
    ctx: typer.Context,
    queues: QueuesArgument,
    *,
    reason: ReasonOption = None,
    is_json: JsonOption = False,
) -> None:
    """Pause queues: no agent takes tasks of them until they are resumed.

    What runs goes on, and new tasks are accepted and wait. It holds for every agent, also for one that starts
    later.

    Example: fleetlog queue pause gpu --reason "the driver is being upgraded"
    """
    run(_set(ctx, queues, is_paused=True, reason=reason, is_json=is_json))


@app.command()
def resume(
    ctx: typer.Context,
    queues: QueuesArgument,
    *,
    reason: ReasonOption = None,
    is_json: JsonOption = False,
) -> None:
    """Resume paused queues: agents take their tasks again.

    Example: fleetlog queue resume gpu
    """
    run(_set(ctx, queues, is_paused=False, reason=reason, is_json=is_json))


async def _set(
    ctx: typer.Context, names: list[str], *, is_paused: bool, reason: str | None, is_json: bool
) -> None:
    for name in names:
        check_id(name, "queue")
    told = []
    async with connected(ctx) as client:
        for name in dict.fromkeys(names):
            state, has_changed = await set_paused(
                client.fleet, name, is_paused=is_paused, actor=actor(), reason=reason
            )
            told.append({**_fields(state), "changed": has_changed})
            if not is_json:
                typer.echo(_text(state, has_changed=has_changed))
    if is_json:
        write_json(told)


def _text(state: QueueState, *, has_changed: bool) -> str:
    if not state.is_paused:
        return f"queue {state.queue} is {'resumed' if has_changed else 'not paused'}"
    if not has_changed:
        return f"queue {state.queue} is {describe_pause(state)} already"
    return f"queue {state.queue} is paused: `fleetlog queue resume {state.queue}` ends it"


async def _list(ctx: typer.Context, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        rows = await _rows(client)
    if is_json:
        write_json(rows)
    elif rows:
        names = ("queue", "state", *_COUNTS, "needs", "agents", "since", "actor", "reason")
        write_table(names, [_cells(row) for row in rows])
    else:
        say("no queues: no agent serves one, and no task waits")


async def _rows(client: Client) -> list[QueueRow]:
    fleet = client.fleet
    states = (await read_queues(fleet.log)).states
    served = _served(await look_at_agents(fleet))
    try:
        _, found = await ask_rows(fleet.services, _QUESTION, is_fresh=True)
        depths: dict[str, dict[str, Any]] | None = {row["queue"]: row for row in found}
    except (Unavailable, ProjectionError) as error:
        say(f"what waits is not known here: {error}")
        depths = None
    nothing: dict[str, Any] = dict.fromkeys(_COUNTS, None if depths is None else 0)
    nothing["needs"] = None if depths is None else []
    # One that was derived from another one is a part of that; on its own it is shown if someone paused it.
    own = {name for name, state in states.items() if state.base is None or state.is_paused}
    rows = []
    for name in sorted({*own, *served, *(depths or ())}):
        depth = (depths or {}).get(name, nothing)
        rows.append(
            QueueRow(
                **_fields(states.get(name, QueueState(queue=name))),
                agents=served[name],
                **{what: depth[what] for what in _COUNTS},
                needs=_needs(depth["needs"]),
            )
        )
    return rows


def _needs(found: list[dict[str, Any]] | None) -> dict[str, int] | None:
    if found is None:
        return None
    return {requirements_text(each["requires"]): each["tasks"] for each in found}


def _served(agents: tuple[AgentSeen, ...]) -> Counter[str]:
    return Counter(queue for agent in agents if agent.state == "running" for queue in agent.queues)


def _fields(state: QueueState) -> dict[str, Any]:
    names = ("queue", "is_paused", "paused_at", "resumed_at", "actor", "reason")
    return {name: getattr(state, name) for name in names}


def _cells(row: QueueRow) -> list[object]:
    since = row.paused_at if row.is_paused else row.resumed_at
    needs = "; ".join(f"{count} {what}" for what, count in (row.needs or {}).items())
    return [
        *(row.queue, "paused" if row.is_paused else "open"),
        *(getattr(row, name) for name in _COUNTS),
        *(needs or None, row.agents),
        *(instant_text(since) if since else None, row.actor, row.reason),
    ]
