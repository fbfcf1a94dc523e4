"""Empty projections by the hundred: made once in each process, then copied, as making one takes 0.3 s."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from fleetlog.projections.store import Store, create_store, open_store


def empty_store(path: Path, fleet: str) -> Store:
    """What `create_store` makes."""
    path.write_bytes(_template(fleet))
    return open_store(path, fleet)


@cache
def _template(fleet: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "projection.duckdb"
        create_store(path, fleet).close()
        return path.read_bytes()
