"""A stranger's statement: checked to be one that only reads, and run so that Python can hold every value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import duckdb
import msgspec

from fleetlog.projections.query import Column
from fleetlog.schemas.errors import InvalidInput

_READS: Final = ("SELECT", "EXPLAIN")
_FETCH_ROWS: Final = 10_000
_AWARE: Final = "TIMESTAMP WITH TIME ZONE"


class Selection(msgspec.Struct, frozen=True):
    """A checked statement."""

    text: str
    """Without a semicolon, so that it can stand in parentheses."""
    is_explain: bool
    """It can't stand in parentheses after all."""


def select_only(connection: duckdb.DuckDBPyConnection, sql: str) -> Selection:
    """Accepts one statement that reads.

    Raises:
        InvalidInput: it does not parse, is not one, or would do something else.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise InvalidInput(f"give one SQL statement, not {len(statements)}")
    kind = statements[0].type.name
    if kind not in _READS:
        raise InvalidInput(
            f"a {kind} statement is not allowed here: queries read a snapshot, so begin with SELECT, FROM,"
            " WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
        )
    return Selection(_without_semicolon(connection, sql), is_explain=kind == "EXPLAIN")


def columns_of(connection: duckdb.DuckDBPyConnection, selection: Selection) -> list[Column]:
    """The columns it gives, before it runs; names that occur twice get a number."""
    if selection.is_explain:
        return [Column("explain_key", "VARCHAR"), Column("explain_value", "VARCHAR")]
    relation = connection.sql(selection.text)
    names = _unique(relation.columns)
    return [Column(name, str(kind)) for name, kind in zip(names, relation.types, strict=True)]


def rows_of(
    connection: duckdb.DuckDBPyConnection,
    selection: Selection,
    columns: list[Column],
    rows_max: int | None,
) -> Iterator[tuple[object, ...]]:
    """Runs it; one row more than `rows_max` shows that there are more."""
    connection.execute(_bounded(selection, columns, rows_max))
    while rows := connection.fetchmany(_FETCH_ROWS):
        yield from rows


def write_parquet(
    connection: duckdb.DuckDBPyConnection, selection: Selection, path: str, rows_max: int | None
) -> tuple[int, bool]:
    """Runs it into a Parquet file; answers how many rows it has and whether there were more."""
    if selection.is_explain:
        raise InvalidInput("EXPLAIN has no rows for a Parquet file: choose another format")
    limit = "" if rows_max is None else f" LIMIT {rows_max}"
    target = path.replace("'", "''")
    # The text was parsed as one SELECT, so its parentheses are balanced; the line feed ends a comment in it.
    ((count,),) = connection.execute(
        f"COPY (FROM (\n{selection.text}\n){limit}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    ).fetchall()
    if rows_max is None or count < rows_max:
        return count, False
    return count, bool(_beyond(connection, selection, rows_max))


def _beyond(
    connection: duckdb.DuckDBPyConnection, selection: Selection, rows_max: int
) -> list[tuple[object, ...]]:
    query = f"SELECT 1 FROM (\n{selection.text}\n) LIMIT 1 OFFSET {rows_max}"  # noqa: S608
    return connection.execute(query).fetchall()


def _bounded(selection: Selection, columns: list[Column], rows_max: int | None) -> str:
    if selection.is_explain:
        return selection.text
    # Python takes an aware instant only with a package that we do not need otherwise; the session is in UTC.
    terms = ", ".join(
        f"CAST(#{position} AS {column.type.replace(_AWARE, 'TIMESTAMP')})"
        if _AWARE in column.type
        else f"#{position}"
        for position, column in enumerate(columns, start=1)
    )
    limit = "" if rows_max is None else f" LIMIT {rows_max + 1}"
    return f"SELECT {terms} FROM (\n{selection.text}\n){limit}"  # noqa: S608


def _without_semicolon(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    # A semicolon may also stand in a string or a comment; DuckDB's own parser tells which it is.
    shortest, cut = sql, sql.rfind(";")
    while cut >= 0:
        head, tail = sql[:cut], sql[cut + 1 :]
        if _count(connection, tail) == 0 and _count(connection, head) == 1:
            shortest = head
        cut = sql.rfind(";", 0, cut)
    return shortest


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int | None:
    try:
        return len(connection.extract_statements(sql))
    except duckdb.Error:
        return None


def _unique(names: list[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique
