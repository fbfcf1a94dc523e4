"""`fleetlog log`: the log itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fleetlog.cli.connection import connected, run
from fleetlog.cli.events import stored_fields, stored_line
from fleetlog.cli.exporting import Part, export_log, opened
from fleetlog.cli.failures import say
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.rendering import json_text, write_json
from fleetlog.cli.tailing import Tail, check_tail, follow_tail, read_tail
from fleetlog.schemas.envelope import Stored

app = plain_typer(no_args_is_help=True)


@app.callback()
def _log() -> None:
    """Read the log itself.

    Example: fleetlog log tail --follow
    """


@app.command()
def tail(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEQ", help="Begin behind this event, not near the end."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The last N; with --after the first N behind it, and then it ends.",
            show_default="20, with --after all",
        ),
    ] = None,
    event_type: Annotated[
        str | None,
        typer.Option("--type", metavar="TYPE", help="Of this type only, such as task.failed."),
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Of this task only.")] = None,
    is_json: JsonOption = False,
) -> None:
    """Show the end of the log, and with --follow what comes.

    Events stand there as they were written. One that this version does not know is shown raw, and said to be
    unknown. With --follow, --json prints an object per line instead of one array.

    Examples:
      fleetlog log tail --follow
      fleetlog log tail --type task.failed --count 5
      fleetlog log tail --after 0 --json > everything.json
    """
    wanted = check_tail(Tail(after=after, count=count, event_type=event_type, task_id=task))
    run(_tail(ctx, wanted, is_following=follow, is_json=is_json))


@app.command()
def export(
    ctx: typer.Context,
    *,
    after: Annotated[
        int, typer.Option(min=0, metavar="SEQ", help="Begin behind this event.", show_default="0")
    ] = 0,
    until: Annotated[
        int | None,
        typer.Option(min=1, metavar="SEQ", help="End with this event.", show_default="the last"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write into this file, not to stdout.")
    ] = None,
    cloudevents: Annotated[
        bool, typer.Option("--cloudevents", help="As CloudEvents 1.0, in structured JSON.")
    ] = False,
) -> None:
    """Write the log as JSON Lines, up to its end at this moment.

    Each line has seq, stored_at, subject, and the event as it was written. An event that this version can't
    read has a problem that says why; what is not even JSON stands in data_base64.

    Examples:
      fleetlog log export --out log.jsonl
      fleetlog log export --after 1000 --until 2000 --cloudevents
    """
    part = Part(after=after, until=until, is_cloudevents=cloudevents)
    run(_export(ctx, part, out))


async def _export(ctx: typer.Context, part: Part, path: Path | None) -> None:
    async with connected(ctx) as client:
        with opened(path) as out:
            count = await export_log(client.fleet.log, part, out)
    if path is not None:
        say(f"{count} events in {path}")


async def _tail(ctx: typer.Context, wanted: Tail, *, is_following: bool, is_json: bool) -> None:
    async with connected(ctx) as client:
        if not is_following:
            found = [one async for page in read_tail(client.fleet.log, wanted) for one in page]
            if is_json:
                write_json([stored_fields(stored) for stored in found])
            else:
                _write(found, is_json=False)
            return
        async for page in follow_tail(client.fleet.log, wanted):
            _write(page, is_json=is_json)


def _write(page: list[Stored], *, is_json: bool) -> None:
    for stored in page:
        typer.echo(json_text(stored_fields(stored)) if is_json else stored_line(stored))
    sys.stdout.flush()
