"""Makes the tables and views, describes them, and tells whether a database has those of this version."""

from __future__ import annotations

import duckdb

from fleetlog.projections.statements import (
    MACROS,
    RELATIONS,
    TABLES,
    VIEWS,
    documentation,
    layout,
    statement,
)
from fleetlog.schemas.subjects import VERBS


def create(connection: duckdb.DuckDBPyConnection, fleet: str) -> None:
    """Fills an empty database with empty tables, in one transaction."""
    connection.execute("BEGIN")
    connection.execute("CREATE SCHEMA store")
    for name in TABLES:
        connection.execute(statement(f"tables/{name}"))
    for name in RELATIONS:
        connection.execute(statement(name))
    for name, texts in documentation().items():
        _describe(connection, name, texts)
    connection.execute("INSERT INTO store.meta VALUES (?, ?, 0, 0, '')", [layout(), fleet])
    connection.execute("COMMIT")


def has_layout(connection: duckdb.DuckDBPyConnection, fleet: str) -> bool:
    """Whether the tables are this version's and this fleet's.

    Raises:
        duckdb.Error: it is no projection at all, or a broken one.
    """
    found = connection.execute("SELECT layout, fleet FROM store.meta").fetchall()
    return found == [(layout(), fleet)]


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Gives a writer's connection what lives only as long as it."""
    connection.execute("SET TimeZone = 'UTC'")
    words = [f"{kind}.{verb}" for kind, verbs in VERBS.items() for verb in sorted(verbs)]
    connection.execute("SET VARIABLE grammar = ?", [words])
    for name in MACROS:
        connection.execute(statement(f"macros/{name}"))


def _describe(connection: duckdb.DuckDBPyConnection, name: str, texts: dict[str, str]) -> None:
    kind = "VIEW" if name in VIEWS else "TABLE"
    for column, text in texts.items():
        target = f"{kind} {name}" if column == "about" else f"COLUMN {name}.{column}"
        literal = text.replace("'", "''")
        connection.execute(f"COMMENT ON {target} IS '{literal}'")
