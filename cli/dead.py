"""`fleetlog dead`: what has failed for good, and reviving it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec
import typer

from fleetlog.bus.client import Client
from fleetlog.bus.errors import FleetlogError, LogFull, Refused
from fleetlog.bus.many import each_of
from fleetlog.bus.reviving import Revived, revive
from fleetlog.cli.actor import ReasonOption, actor
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.choosing import Choice, choose, conditions_sql
from fleetlog.cli.confirming import confirm, counting
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import REFUSED, say
from fleetlog.cli.inputs import labels_of
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import write_json
from fleetlog.cli.tables import write_table
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

app = plain_typer(no_args_is_help=True)

QueueOption = Annotated[str | None, typer.Option(metavar="QUEUE", help="Of this queue only.")]
HandlerOption = Annotated[str | None, typer.Option(metavar="HANDLER", help="Of this handler only.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="With this label only; may be repeated."),
]
ClassOption = Annotated[
    str | None,
    typer.Option("--class", metavar="CLASS", help="Failed with this class only, such as timeout."),
]
ErrorOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only with this text in the error.")
]
OlderOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Submitted longer ago only, such as 2h.")
]

_IDS_MAX: Final = 20


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    task_ids: tuple[str, ...]
    choice: Choice
    reason: str | None
    is_sure: bool
    is_dry: bool
    is_json: bool


@app.callback()
def _dead() -> None:
    """List what has failed for good, and revive it.

    Example: fleetlog dead list
    """


@app.command("list")
def list_dead(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    *,
    queue: QueueOption = None,
    handler: HandlerOption = None,
    label: LabelOption = None,
    class_: ClassOption = None,
    error: ErrorOption = None,
    older_than: OlderOption = None,
    is_json: JsonOption = False,
) -> None:
    """List what has failed, grouped by class and first line of the error, the most frequent first.

    What was revived is not in the list any more. `fleetlog task show` tells all about one task.

    Examples:
      fleetlog dead list
      fleetlog dead list --class timeout --json
    """
    choice = _choice(queue, handler, label, class_, error, older_than)
    run(_list(ctx, choice, is_json=is_json))


@app.command("revive")
def revive_dead(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TASK...]", help="Their ids.", show_default=False),
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All that has failed.")] = False,
    queue: QueueOption = None,
    handler: HandlerOption = None,
    label: LabelOption = None,
    class_: ClassOption = None,
    error: ErrorOption = None,
    older_than: OlderOption = None,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which would be revived, and do nothing.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Revive what has failed: by their ids, all that fit every filter, or --all.

    Each becomes a new task <id>-r1 (then -r2, and so on), the same work with the same options, queued at once;
    the dead one is its cause, and keeps its key. Reviving again while that one has not settled makes no second
    one. With filters it asks before it revives more than one.

    Examples:
      fleetlog dead revive 06f1k3s8zq4v5w6x7y8z9a0b1c
      fleetlog dead revive --class timeout --queue gpu --reason "the network is back"
    """
    named = tuple(check_id(task_id, "task id") for task_id in tasks or ())
    choice = _choice(queue, handler, label, class_, error, older_than)
    is_filtered = all_ or choice != _choice(None, None, None, None, None, None)
    if not named and not is_filtered:
        raise InvalidInput("name tasks by their ids, choose them with filters, or say --all")
    if named and is_filtered:
        raise InvalidInput("name tasks or choose them by filters, not both")
    wanted = _Wanted(
        task_ids=named, choice=choice, reason=reason, is_sure=yes, is_dry=dry_run, is_json=is_json
    )
    raise typer.Exit(run(_revive(ctx, wanted)))


def _choice(
    queue: str | None,
    handler: str | None,
    label: list[str] | None,
    error_class: str | None,
    error: str | None,
    older_than: str | None,
) -> Choice:
    return Choice(
        states=("failed",),
        queue=check_id(queue, "queue") if queue is not None else None,
        handler=handler,
        labels=labels_of(label),
        error_class=error_class,
        error=error,
        older_than_ms=parse_duration(older_than, "older-than") if older_than is not None else None,
    )


async def _list(ctx: typer.Context, choice: Choice, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        before = None
        if choice.older_than_ms is not None:
            before = client.fleet.log.now() - timedelta(milliseconds=choice.older_than_ms)
        sql = f"""
SELECT
    error_class, trim(split_part(ltrim(error, chr(10)), chr(10), 1)) AS error, count(*) AS tasks,
    list_sort(list(DISTINCT handler)) AS handlers, list_sort(list(DISTINCT queue)) AS queues,
    min(settled_at) AS first_at, max(settled_at) AS last_at,
    list_slice(list(task_id ORDER BY settled_at DESC, task_id), 1, {_IDS_MAX}) AS task_ids
FROM tasks
WHERE {conditions_sql(choice, before)}
GROUP BY error_class, 2 ORDER BY tasks DESC, last_at DESC, 1, 2
"""  # noqa: S608 - its texts are literals
        header, rows = await ask_rows(client.fleet.services, sql, is_fresh=True)
    if is_json:
        write_json(rows)
    elif rows:
        names = ("tasks", "error_class", "error", "handlers", "queues", "last_at", "newest")
        write_table(names, [_cells(row, names) for row in rows])
    else:
        say("nothing has failed, or all of it was revived")
    say(f"as of seq {header.seq}; `fleetlog dead revive` makes new tasks of them")


def _cells(row: dict[str, Any], names: tuple[str, ...]) -> list[object]:
    shown = {
        **row,
        "handlers": ", ".join(row["handlers"]),
        "queues": ", ".join(row["queues"]),
        "newest": row["task_ids"][0],
    }
    return [shown[name] for name in names]


async def _revive(ctx: typer.Context, wanted: _Wanted) -> int:
    async with connected(ctx) as client:
        task_ids = list(dict.fromkeys(wanted.task_ids))
        if not task_ids:
            task_ids = [each.task_id for each in await choose(client, wanted.choice)]
            if not task_ids:
                say("nothing that fits has failed, or all of it was revived")
        if wanted.is_dry:
            return _tell_dry(task_ids, is_json=wanted.is_json)
        if not wanted.task_ids and len(task_ids) > 1:
            confirm(f"revive {len(task_ids)} tasks", is_sure=wanted.is_sure)
        return await _revive_all(client, task_ids, wanted)


def _tell_dry(task_ids: list[str], *, is_json: bool) -> int:
    if is_json:
        write_json([{"dead_id": task_id, "dry_run": True} for task_id in task_ids])
    else:
        for task_id in task_ids:
            typer.echo(task_id)
    say(f"would revive {len(task_ids)} tasks; nothing was changed")
    return 0


async def _revive_all(client: Client, task_ids: list[str], wanted: _Wanted) -> int:
    who = actor()

    async def act(task_id: str) -> Revived | FleetlogError:
        try:
            return await revive(client.fleet, task_id, reason=wanted.reason, actor=who)
        except LogFull:
            raise
        except Refused as error:
            return error

    rows, code = [], 0
    with counting("reviving", len(task_ids)) as count:
        async for task_id, answer in each_of(task_ids, act):
            count()
            if isinstance(answer, FleetlogError):
                say(f"Error: {answer}")
                code = REFUSED
                continue
            rows.append(
                {
                    "dead_id": task_id,
                    "task_id": answer.task_id,
                    "seq": answer.seq,
                    "duplicate": answer.is_duplicate,
                }
            )
            if not wanted.is_json:
                before = ", revived before" if answer.is_duplicate else ""
                typer.echo(f"task {task_id} is revived as {answer.task_id}{before}")
    if wanted.is_json:
        write_json(rows)
    return code
