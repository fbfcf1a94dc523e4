"""Asking the projector: what a query and its answer are, and the asking side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleetlog.bus.errors import ProjectionError
from fleetlog.bus.services import Services

SERVICE: Final = "sql"
"""The name of the service."""
GRACE_S: Final = 10.0
"""An answer may take so much longer than its query: for a snapshot, and for starting a process."""

Format = Literal["json", "csv", "parquet", "rows"]
"""`json`: one array of row objects; `rows`: one JSON array per row and line, for tables."""


class SqlRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One query."""

    sql: str = ""
    """One statement that only reads: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN."""
    format: Format = "json"
    """How the rows come."""
    is_fresh: bool = False
    """Wait until the projection holds everything that is in the log now."""
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """The longest the query may run."""
    rows_max: Annotated[int, Meta(ge=1)] | None = None
    """More rows than this are left out; None for no limit but the result's size."""
    builtin: Literal["tables", "digests"] | None = None
    """Instead of `sql`: `tables` (a row per column: table, kind, about, column, type, column_about) or
    `digests` (table, rows, sha256)."""


class Column(msgspec.Struct, frozen=True):
    """One column of a result."""

    name: str
    """Its name."""
    type: str
    """DuckDB's name of its type."""


class SqlHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before the rows."""

    seq: int
    """The answer holds the log up to this event."""
    snapshot_at: datetime
    """When the snapshot that was queried was made, by the projector's clock."""
    columns: list[Column]
    """In order."""
    rows: int
    """How many follow."""
    is_truncated: bool = False
    """There were more than `rows_max`."""
    size_bytes: int = 0
    """Of what follows."""


async def query(services: Services, request: SqlRequest) -> tuple[SqlHeader, AsyncIterator[bytes]]:
    """Asks the fleet's projector; answers the header and the bytes of the result in chunks.

    Raises:
        InvalidInput: the statement is wrong; the message says how, in DuckDB's words.
        ProjectionError: it took too long, needed too much memory, or the result is too large.
        Unavailable: no projector answers.
    """
    chunks = services.request(
        SERVICE, msgspec.json.encode(request), timeout_s=request.timeout_s + GRACE_S
    )
    async for chunk in chunks:
        return msgspec.json.decode(chunk, type=SqlHeader), chunks
    raise ProjectionError("the projector gave no answer: ask again")
