"""The files of a projection in its data folder, and how they are put away."""

from __future__ import annotations

from pathlib import Path

import msgspec

_SUFFIXES = ("", ".wal", ".wal.checkpoint", ".wal.recovery")


class Files(msgspec.Struct, frozen=True):
    """Where things lie.

    No Python code opens the database file while DuckDB has it: closing it again would end DuckDB's lock.
    """

    folder: Path
    """The data folder; made when missing."""

    @property
    def database(self) -> Path:
        """What the projector writes."""
        return self.folder / "projection.duckdb"

    @property
    def rebuilt(self) -> Path:
        """A rebuild on its way; becomes `database`."""
        return self.folder / "projection-rebuild.duckdb"

    @property
    def snapshot(self) -> Path:
        """The copy that queries read."""
        return self.folder / "snapshot.duckdb"

    @property
    def queries(self) -> Path:
        """A folder per running query, for its result."""
        return self.folder / "queries"


def discard(database: Path) -> None:
    """Removes a database with all that DuckDB keeps beside it; nobody may have it open."""
    # The write-ahead log goes first: without it the database is merely older.
    for suffix in reversed(_SUFFIXES):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def set_aside(database: Path) -> Path:
    """Gives a database that can't be opened another name, for whoever wants to look; answers it."""
    aside = database.with_name(database.name + ".broken")
    discard(aside)
    for suffix in reversed(_SUFFIXES):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return aside


def replace(new: Path, old: Path) -> None:
    """Puts a closed database in another's place; whoever reads the old one keeps it."""
    for suffix in _SUFFIXES[1:]:
        old.with_name(old.name + suffix).unlink(missing_ok=True)
    new.replace(old)
