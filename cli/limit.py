"""`fleetlog limit`: how many tasks under a key run at once, and how often one starts."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from fleetlog.bus.bounds import set_limit
from fleetlog.bus.core.limits import Limit
from fleetlog.cli.actor import ReasonOption, actor
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.bounds import rate_of
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.durations import format_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import LimitSet
from fleetlog.schemas.ids import key_token

app = plain_typer(no_args_is_help=True)

_QUESTION: Final = """
SELECT key, setting_key, concurrency, rate, per_ms, burst, holders, waiting, admissions, admitted_at, set_at,
    actor, reason
FROM limits ORDER BY key
"""


@app.callback()
def _limit() -> None:
    """Set and list limits: how many tasks run at once, how often one starts.

    A limit has a name, and counts in the whole fleet. A task names its limits with --limit KEY. It waits, in no
    queue, until each of them has room; `task show` says which one has none. A task between two attempts takes
    no room.

    Example: fleetlog limit list
    """


@app.command("set")
def set_one(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="The limit's name; NAME:* sets it for each key that begins with NAME: and has no setting"
            " of its own.",
        ),
    ],
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="So many at once; 0 holds all that is not running."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="N/DURATION", help="So many starts in so long, such as 10/1m."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --rate: so many starts at once after a pause.",
            show_default="the rate's N",
        ),
    ] = None,
    is_open: Annotated[bool, typer.Option("--none", help="Nothing is bounded any more.")] = False,
    reason: ReasonOption = None,
    is_json: JsonOption = False,
) -> None:
    """Set a limit; what was set before is replaced as a whole.

    What runs goes on, also where the new limit is lower. Attempts count, retries too.

    Examples:
      fleetlog limit set github --concurrency 3
      fleetlog limit set openai --rate 60/1m --burst 10 --concurrency 8
      fleetlog limit set 'user:*' --concurrency 2
    """
    key_token(key)
    if is_open == (concurrency is not None or rate is not None):
        raise InvalidInput("give --concurrency, --rate or both; or --none alone")
    if burst is not None and rate is None:
        raise InvalidInput("--burst goes with --rate")
    count, per_ms = rate_of(rate) if rate is not None else (None, 1_000)
    setting = {
        "key": key,
        "concurrency": concurrency,
        "rate": count,
        "per_ms": per_ms,
        "burst": burst,
        "actor": actor(),
        "reason": reason,
    }
    limit = run(_set(ctx, setting))
    row = _fields(limit)
    if is_json:
        write_json(row)
    else:
        say(f"limit {key}: {_rule(row)}")


@app.command("list")
def list_limits(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """List limits: how each is set, how many tasks take room, and how many wait.

    Example: fleetlog limit list
    """
    rows = run(_rows(ctx))
    if is_json:
        write_json(rows)
    elif rows:
        names = ("limit", "rule", "running", "waiting", "let in", "last")
        write_table(names, [_row(row) for row in rows])
    else:
        say("no limit was ever set: `fleetlog limit set KEY --concurrency 3` sets one")


async def _set(ctx: typer.Context, setting: dict[str, Any]) -> Limit:
    async with connected(ctx) as client:
        fleet = client.fleet
        event = LimitSet(id=fleet.system.new_id(), occurred_at=fleet.log.now(), **setting)
        return await set_limit(fleet, event)


async def _rows(ctx: typer.Context) -> list[dict[str, Any]]:
    async with connected(ctx) as client:
        _, rows = await ask_rows(client.fleet.services, _QUESTION, is_fresh=True)
        return rows


def _fields(limit: Limit) -> dict[str, Any]:
    assert limit.setting is not None
    names = ("concurrency", "rate", "per_ms", "burst", "actor", "reason")
    return {"key": limit.key} | {name: getattr(limit.setting, name) for name in names}


def _rule(row: dict[str, Any]) -> str:
    parts = []
    if row["concurrency"] is not None:
        parts.append(f"{row['concurrency']} at once")
    if row["rate"] is not None:
        burst = f", {row['burst']} at once after a pause" if row["burst"] else ""
        parts.append(f"{row['rate']} starts in {format_duration(row['per_ms'])}{burst}")
    return " and ".join(parts) or "nothing is bounded"


def _row(row: dict[str, Any]) -> list[str]:
    rule = _rule(row)
    if row["setting_key"] not in (None, row["key"]):
        rule += f" ({row['setting_key']})"
    return [
        *(row["key"], rule),
        *(str(row[name]) for name in ("holders", "waiting", "admissions")),
        row["admitted_at"] or "",
    ]
