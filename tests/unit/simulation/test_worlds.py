"""Small worlds hold in every order of their steps, and worlds with a planted bug do not."""

from __future__ import annotations

import pytest

from tests.simulation.worlds.explorer import Explorer, Found
from tests.simulation.worlds.planted import BUGS
from tests.simulation.worlds.world import Plan, World

STATES_MAX = 400_000


def explored(plan: Plan) -> Found:
    return Explorer(World(plan), states_max=STATES_MAX).run()


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_and_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    assert explored(bug.plan).wrong == ""
    bug.plant(monkeypatch)
    found = explored(bug.plan)
    print(found)
    assert bug.wrong in found.wrong
    assert found.wrong
    assert found.story
