"""Loads a run's log into the projector's DuckDB, and compares what that shows with the core's folds.

The log is cut into batches at random, the database is closed and opened in between, batches come twice as they
may after a restart; and however it was cut, the rows must be those of a database built in one go.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.projections.store import Store, open_store
from fleetlog.schemas.envelope import Stored
from simulation.folded import Folded, Key, Row, Table
from simulation.invariants import Message, Violation

RULE = "projection"
PLACES = 4
"""So often in the middle of a log."""
BATCHES = 3
"""So many more cuts at least."""
AGAIN_PART = 0.15
"""Of the batches come again, before a database that was opened anew."""
DIFFERENCES_MAX = 5
"""So many are told of one table."""
MEMORY = "100MB"


def differences(
    seed: int, fleet: str, log: Sequence[Message], objects: Mapping[str, bytes]
) -> list[Violation]:
    """Where the projection of a log and its fold differ, at some places that the seed draws, and at its end."""
    with TemporaryDirectory() as folder:
        return _Comparison(seed, fleet, Path(folder), objects).run([Stored(*each) for each in log])


class _Comparison:
    def __init__(self, seed: int, fleet: str, folder: Path, objects: Mapping[str, bytes]) -> None:
        self._chance = random.Random(f"{seed} projection")
        self._fleet = fleet
        self._path = folder / "projection.duckdb"
        self._folded = Folded(objects)
        self._store = _limited(empty_store(self._path, fleet))
        self._found: list[Violation] = []

    def run(self, log: list[Stored]) -> list[Violation]:
        places = {self._chance.randint(1, len(log)) for _ in range(PLACES)} if log else set()
        try:
            for first, last in self._cuts(len(log), places):
                self._apply(log, first, last)
                if last in places or last == len(log):
                    self._compare(last)
            self._compare_with_one_go(log)
        finally:
            self._store.close()
        return self._found

    def _cuts(self, end: int, places: set[int]) -> Iterator[tuple[int, int]]:
        ends = {self._chance.randint(1, end) for _ in range(BATCHES)} if end else set()
        first = 0
        for last in sorted(ends | places | ({end} if end else set())):
            yield first, last
            first = last

    def _apply(self, log: list[Stored], first: int, last: int) -> None:
        if first and self._chance.random() < AGAIN_PART:
            self._store.close()
            self._store = _limited(open_store(self._path, self._fleet))
            self._store.apply(log[self._chance.randrange(first) : first])
            first = self._chance.randrange(first)
        self._store.apply(log[first:last])
        for stored in log[self._folded.seq : last]:
            self._folded.take(stored)

    def _compare(self, seq: int) -> None:
        for table in self._folded.tables():
            shown = rows(self._store, table.source or f"FROM {table.name}")
            found = {tuple(row[name] for name in table.key): row for row in shown}
            told = list(_told(table, found))
            if len(found) < len(shown):
                told.append(f"has {len(shown) - len(found)} rows twice")
            for text in told[:DIFFERENCES_MAX]:
                self._report(seq, f"{table.name} {text}")

    def _compare_with_one_go(self, log: list[Stored]) -> None:
        other = _limited(empty_store(self._path.with_name("other.duckdb"), self._fleet))
        try:
            if log:
                other.apply(log)
            mine, theirs = self._store.digests(), other.digests()
        finally:
            other.close()
        for name in sorted({*mine, *theirs}):
            if mine.get(name) != theirs.get(name):
                self._report(len(log), f"{name} depends on how the log was cut into batches")

    def _report(self, seq: int, text: str) -> None:
        self._found.append(Violation(RULE, seq, f"at {seq} {text}"))


def _limited(store: Store) -> Store:
    store._connection.execute(f"SET memory_limit = '{MEMORY}'; SET threads = 1")
    return store


def _told(table: Table, found: Mapping[Key, Row]) -> Iterator[str]:
    for key, row in table.rows.items():
        name = " ".join(map(str, key))
        if key not in found:
            if key not in table.unsure:
                yield f"lacks {name}"
            continue
        for column, value in row.items():
            if found[key][column] != value:
                yield f"{name} shows {column} {found[key][column]!r}, the fold {value!r}"
    if table.is_whole:
        for key in found:
            if key not in table.rows:
                yield f"shows {' '.join(map(str, key))}, the fold does not"
