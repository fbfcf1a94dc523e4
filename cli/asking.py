"""Queries to the projector, from commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from fleetlog.bus.errors import Unavailable
from fleetlog.bus.services import Services
from fleetlog.projections.query import SqlHeader, SqlRequest, query

ROWS_TIMEOUT_S = 10.0


async def ask(services: Services, request: SqlRequest) -> tuple[SqlHeader, AsyncIterator[bytes]]:
    """The header, and the result in chunks.

    Raises:
        InvalidInput: the statement is wrong.
        ProjectionError: it took too long or needed too much.
        Unavailable: no projector answers; the message says how to start one.
    """
    try:
        return await query(services, request)
    except Unavailable as error:
        raise Unavailable(
            f"no projector answers ({error}): `fleetlog up` runs one, `fleetlog projector` starts one alone"
        ) from error


async def ask_rows(
    services: Services, sql: str, *, is_fresh: bool = False
) -> tuple[SqlHeader, list[dict[str, Any]]]:
    """The header and the rows as objects. Raises as `ask` does."""
    request = SqlRequest(sql=sql, is_fresh=is_fresh, timeout_s=ROWS_TIMEOUT_S)
    header, chunks = await ask(services, request)
    data = b"".join([chunk async for chunk in chunks])
    return header, msgspec.json.decode(data, type=list[dict[str, Any]])


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
