"""Hypothesis: the same examples in every run; `HYPOTHESIS_PROFILE=explore` tries many new ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

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
