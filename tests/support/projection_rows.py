"""Rows of a store as dictionaries, with aware instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fleetlog.projections.store import Store

_AWARE = "TIMESTAMP WITH TIME ZONE"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows(store: Store, query: str) -> list[dict[str, Any]]:
    """Runs a query on the writer's own connection."""
    connection = store._connection  # the tests look behind the store's face on purpose
    relation = connection.sql(query)
    names, kinds = relation.columns, [str(kind) for kind in relation.types]
    terms = ", ".join(
        f"epoch_us(#{n})" if kind == _AWARE else f"#{n}" for n, kind in enumerate(kinds, 1)
    )
    connection.execute(f"SELECT {terms} FROM ({query})")
    return [
        {
            name: _instant(value) if kind == _AWARE else value
            for name, kind, value in zip(names, kinds, row, strict=True)
        }
        for row in connection.fetchall()
    ]


def _instant(us: int | None) -> datetime | None:
    return None if us is None else _EPOCH + timedelta(microseconds=us)
