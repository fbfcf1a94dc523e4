"""Queries that come with fleetlog, for what operators ask first: one file each under `sql/saved`."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files

import msgspec

from fleetlog.schemas.errors import InvalidInput


class SavedQuery(msgspec.Struct, frozen=True):
    """One query that can be run by its name."""

    name: str
    """As in `fleetlog sql --saved NAME`."""
    title: str
    """What it answers, in a sentence."""
    sql: str
    """One SELECT."""


@cache
def saved_queries() -> tuple[SavedQuery, ...]:
    """All of them, by name."""
    entries = (files("fleetlog.projections") / "sql" / "saved").iterdir()
    return tuple(
        sorted(
            (_read(entry.name, entry.read_text("utf-8")) for entry in entries),
            key=lambda query: query.name,
        )
    )


def saved_query(name: str) -> SavedQuery:
    """The one with this name.

    Raises:
        InvalidInput: there is none.
    """
    known = {query.name: query for query in saved_queries()}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise InvalidInput(f"no saved query is called {name!r}: {hint}")


def _read(file_name: str, text: str) -> SavedQuery:
    # The first line is a comment, and the title.
    title = text.partition("\n")[0].removeprefix("-- ")
    return SavedQuery(file_name.removesuffix(".sql"), title, text)
