"""`fleetlog barrier`: fan-outs, and how far they are."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Final

import typer

from fleetlog.bus.errors import TaskNotFound
from fleetlog.bus.services import Services
from fleetlog.cli.asking import ask_rows, literal
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import one_line, write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

app = plain_typer(no_args_is_help=True)

STATES: Final = ("open", "released", "abandoned")
MISSING_SHOWN: Final = 20
"""So many of the members that a barrier waits for are shown to people."""
SETTLED: Final = ("completed", "failed", "cancelled", "expired")
_BAR_WIDTH: Final = 30
_LIST: Final = (
    *("barrier_id", "state", "policy", "quorum", "settled", "succeeded", "expected"),
    *("opened_at", "ended_at", "deadline_at", "continuation_id", "parent_id", "reason"),
)
_OF_BARRIER: Final = """
SELECT b.*, t.state AS continuation_state, t.handler AS continuation_handler
FROM barriers AS b LEFT JOIN tasks AS t ON t.task_id = b.continuation_id
WHERE b.barrier_id = {barrier_id}
"""
_OF_MEMBERS: Final = """
SELECT * EXCLUDE (barrier_id) FROM barrier_members
WHERE barrier_id = {barrier_id} ORDER BY position NULLS LAST, task_id
"""


@app.callback()
def _barrier() -> None:
    """List and show barriers: what waits for the members of a fan-out.

    Example: fleetlog barrier list --state open
    """


@app.command("list")
def list_barriers(
    ctx: typer.Context,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="open, released or abandoned; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    is_json: JsonOption = False,
) -> None:
    """List barriers, the newest first.

    Of each: how many of its members have settled, how many of those have completed, and the task that runs
    then.

    Examples:
      fleetlog barrier list --state open
      fleetlog barrier list --limit 5 --json
    """
    states = tuple(_check_state(each) for each in state or ())
    run(_list(ctx, states, limit, is_json=is_json))


@app.command()
def show(
    ctx: typer.Context,
    barrier: Annotated[
        str,
        typer.Argument(
            metavar="BARRIER", help="The barrier's id; of a task that fanned out, the task's."
        ),
    ],
    *,
    is_json: JsonOption = False,
) -> None:
    """Show a barrier: how far it is, what follows, and which members are missing.

    With --json, all of its members and their states.

    Example: fleetlog barrier show 06f1k3s8zq4v5w6x7y8z9a0b1c
    """
    check_id(barrier, "barrier id")
    run(_show(ctx, barrier, is_json=is_json))


async def read_barrier(services: Services, barrier_id: str) -> dict[str, Any] | None:
    """The row of `barriers`, with `continuation_state` and `continuation_handler`. Raises as `ask` does."""
    question = _OF_BARRIER.format(barrier_id=literal(barrier_id))
    _, rows = await ask_rows(services, question, is_fresh=True)
    return rows[0] if rows else None


def policy_text(barrier: dict[str, Any]) -> str:
    """The policy as people write it, such as `quorum=3`."""
    quorum = barrier["quorum"]
    return str(barrier["policy"]) + (f"={quorum}" if quorum is not None else "")


def progress_bar(settled: int, expected: int) -> str:
    """How much of it is done; full where there is nothing to do."""
    filled = _BAR_WIDTH * min(settled, expected) // expected if expected else _BAR_WIDTH
    return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}]"


async def _list(ctx: typer.Context, states: tuple[str, ...], limit: int, *, is_json: bool) -> None:
    where = f"WHERE state IN ({', '.join(map(literal, states))})" if states else ""
    question = (
        f"SELECT {', '.join(_LIST)} FROM barriers {where}"  # noqa: S608 - names and words of our own
        f" ORDER BY opened_at DESC, barrier_id DESC LIMIT {limit}"
    )
    async with connected(ctx) as client:
        header, rows = await ask_rows(client.fleet.services, question, is_fresh=True)
    if is_json:
        write_json(rows)
    elif rows:
        names = ("barrier_id", "state", "policy", "settled", "completed", "opened_at", "then")
        write_table(names, [_cells(row) for row in rows])
    else:
        say("no such barriers" if states else "no barriers: nothing has fanned out")
    say(f"as of seq {header.seq}")


def _cells(row: dict[str, Any]) -> list[object]:
    return [
        *(row["barrier_id"], row["state"], policy_text(row)),
        *(f"{row['settled']} of {row['expected']}", row["succeeded"]),
        *(row["opened_at"], row["continuation_id"]),
    ]


async def _show(ctx: typer.Context, barrier_id: str, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        services = client.fleet.services
        barrier = await read_barrier(services, barrier_id)
        if barrier is None:
            raise TaskNotFound(
                f"there is no barrier {barrier_id} in fleet {client.fleet.name};"
                " `fleetlog barrier list` shows what there is"
            )
        question = _OF_MEMBERS.format(barrier_id=literal(barrier_id))
        header, members = await ask_rows(services, question)
    if is_json:
        write_json(barrier | {"members": members})
    else:
        typer.echo("\n".join(f"{name:<10} {text}" for name, text in _rows(barrier, members)))
        _tell_missing(members)
    say(f"as of seq {header.seq}")


def _rows(barrier: dict[str, Any], members: list[dict[str, Any]]) -> list[tuple[str, str]]:
    settled, expected = barrier["settled"], barrier["expected"]
    rows = [
        ("barrier", barrier["barrier_id"]),
        ("state", barrier["state"]),
        (
            "progress",
            f"{progress_bar(settled, expected)} {settled} of {expected} settled,"
            f" {barrier['succeeded']} completed",
        ),
        ("policy", f"{policy_text(barrier)}, stragglers {barrier['stragglers']}"),
        ("opened", barrier["opened_at"]),
    ]
    if barrier["deadline_at"] is not None:
        rows.append(("deadline", barrier["deadline_at"]))
    if barrier["ended_at"] is not None:
        rows.append(("ended", barrier["ended_at"]))
    if barrier["reason"] is not None:
        rows.append(("reason", one_line(barrier["reason"])))
    if barrier["parent_id"] is not None:
        rows.append(("parent", f"task {barrier['parent_id']}"))
    rows.append(("then", _continuation_text(barrier)))
    counts = Counter(member["state"] or "not made yet" for member in members)
    if (unknown := expected - len(members)) > 0:
        counts["not known yet"] = unknown
    if counts:
        rows.append(("members", ", ".join(f"{count} {state}" for state, count in counts.items())))
    return rows


def _continuation_text(barrier: dict[str, Any]) -> str:
    if barrier["continuation_id"] is None:
        return "nothing follows"
    state = barrier["continuation_state"] or "not made yet"
    handler = f", {one_line(barrier['continuation_handler'])}" * bool(
        barrier["continuation_handler"]
    )
    return f"task {barrier['continuation_id']}{handler}: {state}"


def _tell_missing(members: list[dict[str, Any]]) -> None:
    missing = [member for member in members if member["state"] not in SETTLED]
    if not missing:
        return
    names = ("position", "task_id", "handler", "state", "attempts", "follower_id")
    typer.echo(f"\nmissing: {len(missing)} of {len(members)}")
    write_table(names, [[row[name] for name in names] for row in missing[:MISSING_SHOWN]])
    if len(missing) > MISSING_SHOWN:
        typer.echo(f"and {len(missing) - MISSING_SHOWN} more; --json shows all")


def _check_state(state: str) -> str:
    if state not in STATES:
        raise InvalidInput(f"state {state!r} is not one of {', '.join(STATES)}")
    return state
