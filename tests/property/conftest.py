"""Hypothesis: the same examples in every run; `HYPOTHESIS_PROFILE=explore` tries many new ones.

Coverage does not look: what is covered must be so by a test that says what it is about.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from support.measuring import not_measuring

# Fixtures that apply to every test (a clean environment) do no harm when examples share them.
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=_SHARED,
)
settings.register_profile(
    "explore", database=None, deadline=None, max_examples=5_000, suppress_health_check=_SHARED
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="module", autouse=True)
def _unmeasured() -> Iterator[None]:
    with not_measuring():
        yield
