"""Whole fleets and worlds: they compute a lot, and prove what they do not cover alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.measuring import not_measuring


@pytest.fixture(scope="module", autouse=True)
def _unmeasured() -> Iterator[None]:
    with not_measuring():
        yield
