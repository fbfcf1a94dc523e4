"""Digests: two projections of one log hold the same rows if, and only if, these are equal."""

from __future__ import annotations

import hashlib

import duckdb
import msgspec

from fleetlog.projections.statements import SURFACE

_FETCH_ROWS = 50_000


class Digest(msgspec.Struct, frozen=True):
    """What one table or view holds."""

    rows: int
    """How many."""
    sha256: str
    """Over every column of every row, in the order of the table's key."""


def digest_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, Digest]:
    """The digest of each table and view, `heartbeats` excepted: they are not in the log."""
    return {name: _digest(connection, name, order) for name, order in SURFACE.items()}


def _digest(connection: duckdb.DuckDBPyConnection, name: str, order: str) -> Digest:
    # Names and orders are our own constants; nothing of a user's stands in this text.
    query = f"SELECT md5(to_json(t)) FROM (SELECT * FROM {name} ORDER BY {order}) AS t"  # noqa: S608
    connection.execute(query)
    whole = hashlib.sha256()
    rows = 0
    while found := connection.fetchmany(_FETCH_ROWS):
        whole.update("".join(row[0] for row in found).encode())
        rows += len(found)
    return Digest(rows, whole.hexdigest())
