"""`fleetlog sql`: asks the fleet's history anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
import typer

from fleetlog.bus.client import Client
from fleetlog.bus.errors import ConfigError
from fleetlog.cli.asking import ask
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.inputs import read_stdin
from fleetlog.cli.tables import write_table
from fleetlog.projections.query import Format, SqlHeader, SqlRequest
from fleetlog.projections.saved import saved_queries, saved_query
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput

TABLE_ROWS_MAX = 1000
"""More rows than this are no table for people."""

OutputFormat = Literal["table", "json", "csv", "parquet"]


def sql(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="[SELECT]",
            help="One statement that reads; - reads it from stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, json, csv or parquet.",
            show_default="by the ending of --output, else table",
        ),
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="First wait for all that is in the log now.")
    ] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Show the tables and views, with their columns.")
    ] = False,
    saved: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Run a query that comes with fleetlog.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="Stop the query after so long.")
    ] = "30s",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result here, not on stdout.")
    ] = None,
) -> None:
    """Ask the fleet's history anything, in SQL.

    DuckDB answers from views that are rebuilt from the log: tasks, attempts, agents, workers, events,
    queue_depth, throughput_by_minute, latency, success_rate, speedup and more. Queries can only read. `as of
    seq N` on stderr says up to which event the answer goes.

    Examples:
      fleetlog sql "SELECT state, count(*) FROM tasks GROUP BY state"
      fleetlog sql --tables
      fleetlog sql --saved workers-by-host
      fleetlog sql --format csv --fresh "FROM attempts WHERE outcome = 'failed'" > failed.csv
    """
    if (statement is not None) + (saved is not None) + tables != 1:
        raise InvalidInput(
            'give one statement, such as "FROM tasks LIMIT 5", or --tables, or --saved with one of: '
            + ", ".join(query.name for query in saved_queries())
        )
    text = saved_query(saved).sql if saved is not None else statement or ""
    request = SqlRequest(
        sql=read_stdin("statement") if text == "-" else text,
        builtin="tables" if tables else None,
        is_fresh=fresh,
        timeout_s=_timeout_s(timeout),
    )
    run(_ask_and_write(ctx, request, _format_of(output_format, output, is_json=is_json), output))


async def _ask_and_write(
    ctx: typer.Context, request: SqlRequest, kind: OutputFormat, path: Path | None
) -> None:
    if kind == "parquet" and path is None and sys.stdout.isatty():
        raise InvalidInput("Parquet is not for a terminal: give --output FILE, or redirect stdout")
    async with connected(ctx) as client:
        if kind == "table" and path is None:
            header = await _show(client, request)
        else:
            header = await _write(client, request, "csv" if kind == "table" else kind, path)
    more = "; there are more rows: use --format csv or json" if header.is_truncated else ""
    say(f"as of seq {header.seq}{more}")


async def _show(client: Client, request: SqlRequest) -> SqlHeader:
    limited = msgspec.structs.replace(request, format="rows", rows_max=TABLE_ROWS_MAX)
    if request.builtin is not None:
        limited = msgspec.structs.replace(limited, rows_max=None)
    header, chunks = await ask(client.fleet.services, limited)
    data = b"".join([chunk async for chunk in chunks])
    rows = msgspec.json.decode(b"[" + b",".join(data.splitlines()) + b"]", type=list[list[Any]])
    if request.builtin == "tables":
        _show_tables(rows)
    else:
        write_table([column.name for column in header.columns], rows, null="NULL")
    return header


async def _write(client: Client, request: SqlRequest, kind: Format, path: Path | None) -> SqlHeader:
    header, chunks = await ask(client.fleet.services, msgspec.structs.replace(request, format=kind))
    with _sink(path) as sink:
        async for chunk in chunks:
            sink.write(chunk)
    return header


@contextmanager
def _sink(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error


def _show_tables(rows: list[list[Any]]) -> None:
    """Each table with what it is about, then its columns."""
    previous = None
    for table, kind, about, column, column_type, column_about in rows:
        if table != previous:
            typer.echo(f"{'' if previous is None else chr(10)}{table} ({kind}): {about or ''}")
            previous = table
        typer.echo(f"  {column:<20} {_short_type(column_type):<12} {column_about or ''}")


def _short_type(text: str) -> str:
    return text.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")


def _format_of(text: str | None, path: Path | None, *, is_json: bool) -> OutputFormat:
    if is_json:
        return "json"
    if text is None:
        text = path.suffix.removeprefix(".") if path is not None else "table"
    match text:
        case "table" | "json" | "csv" | "parquet":
            return text
        case _:
            raise InvalidInput(
                f"format {text!r} is not one of table, json, csv, parquet: give --format"
            )


def _timeout_s(text: str) -> float:
    timeout_s = parse_duration(text, "timeout") / 1000
    if not 0 < timeout_s <= 600:
        raise InvalidInput(f"timeout {text!r} is not allowed: a query may run from 1ms to 10m")
    return timeout_s
