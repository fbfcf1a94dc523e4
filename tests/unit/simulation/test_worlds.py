"""Small worlds hold in every order of their steps, and worlds with a planted bug do not."""

from __future__ import annotations

import os

import pytest
from simulation.worlds.beginning import Plan
from simulation.worlds.catalog import MIDDLING, SMALL
from simulation.worlds.explorer import Explorer, Found
from simulation.worlds.planted import BUGS
from simulation.worlds.world import World

pytestmark = pytest.mark.usefixtures("unmeasured")

IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
STATES_MAX = 8_000_000

FLOORS = {
    "a crash and a delivery too many, nobody but the agents": 500,
    "three agents, of whom two find the first one dead": 2_000,
    "an agent that stands still and comes back": 8_000,
    "an agent that comes back to a task that someone wants to end": 12_000,
    "retries and attempts given back, two coordinators": 8_000,
    "one key, submitted twice": 3_000,
    "a replicated server": 12_000,
    "a barrier, two coordinators with old folds": 7_500,
    "a barrier whose writer may be slow or dead": 11_000,
    "a barrier that needs all, and a crash": 50_000,
    "a barrier that needs one, its stragglers cancelled": 21_000,
    "a barrier that a client ends": 11_000,
    "a coordinator is followed by another one while an agent is lost": 11_000,
    "a barrier whose deadline passes, and a crash": 20_000,
    "a task after two others": 15_000,
    "a task after another one, and a coordinator that begins anew": 5_000,
    "two members, two coordinators, a crash": 1_200_000,
    "a barrier that needs both of its members, and a crash": 500_000,
    "a replicated server, and all that befalls one task": 500_000,
    "one key, submitted twice, and all that befalls one task": 250_000,
}
"""Fewer states would say that a world has lost some of what may happen in it."""


def explored(plan: Plan) -> Found:
    return Explorer(World(plan), states_max=STATES_MAX).run()


@pytest.mark.parametrize("name", SMALL)
def test_a_small_world_holds_and_settles_in_every_order(name: str) -> None:
    found = explored(SMALL[name])
    print(found)
    assert not found.wrong, str(found)
    assert found.is_complete
    assert found.states >= FLOORS[name]
    assert found.settled > 0


@pytest.mark.slow
@pytest.mark.skipif(not IS_LONG, reason="takes minutes; set FLEETLOG_LONG=1")
@pytest.mark.parametrize("name", MIDDLING)
def test_a_middling_world_holds_and_settles_in_every_order(name: str) -> None:
    found = explored(MIDDLING[name])
    print(found)
    assert not found.wrong, str(found)
    assert found.is_complete
    assert found.states >= FLOORS[name]


def test_the_story_is_the_shortest_one_and_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS["a redelivery is taken for the death of the holder"]
    bug.plant(monkeypatch)
    assert explored(bug.plan).story == (
        "a1 gets the offer of t1 for the first time and asks for claimed after 1",
        "the server takes a1's offer of t1 for lost",
        "a1's claim of t1 is stored as event 2",
        "a2 gets the offer of t1 again, reads t1 from the log,"
        " finds that its holder is silent and asks for claimed after 2",
    )


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
