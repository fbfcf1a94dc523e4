from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores import empty_store

from fleetlog.projections.store import Store
from tests.unit.projections.histories import FLEET


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = empty_store(tmp_path / "projection.duckdb", FLEET)
    yield made
    made.close()
