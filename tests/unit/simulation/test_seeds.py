"""The simulator itself: the same seed is the same run, what is wrong is found, and told shortly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulation.finding import BUG_STEPS, find
from simulation.narrator import told
from simulation.planted import BUGS, Bug
from simulation.shrinking import shrink
from simulation.story import Story
from support.measuring import unmeasured

pytestmark = pytest.mark.usefixtures("unmeasured")

STEPS = 40
IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
SEEDS = "0..499" if IS_LONG else "0..5"
QUICK = ("a limit lets one more in", "a retry does not wait", "a barrier misses one member")


def test_the_same_seed_is_the_same_run() -> None:
    stories = [Story(11, STEPS) for _ in range(2)]
    for story in stories:
        assert story.run() == []
    first, second = ([tuple(kept) for kept in story.world.log] for story in stories)
    assert first == second
    assert len(first) > 50
    assert stories[0].told == stories[1].told


def test_no_seed_goes_wrong() -> None:
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "simulation", SEEDS, "--steps", "60"],
        env=unmeasured(os.environ | {"PYTHONPATH": str(tests)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 went wrong" in done.stdout


@pytest.mark.parametrize(
    "bug", [bug for bug in BUGS if IS_LONG or bug.name in QUICK], ids=lambda bug: bug.name
)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    found = find(bug, BUG_STEPS if IS_LONG else STEPS)
    assert found.keys() == bug.rules.keys()


def test_what_goes_wrong_is_told_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    [bug] = [bug for bug in BUGS if bug.name == "a retry does not wait"]
    found = find(bug, STEPS)["wait.retry"]
    bug.plant(monkeypatch)
    story, wrong = shrink(found.seed, STEPS, "wait.retry")
    assert 0 < len(story.steps) < STEPS / 3
    lines = list(told(story.told, story.world.log, wrong[:1]))
    assert len(lines) < 60
    assert any("is tried again after" in line or "goes back" in line for line in lines)
    assert lines[-1].startswith("wrong: wait.retry: task ")
