"""The planted bugs: they fit the code as it is, and no rule is without one. `test_seeds` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulation.invariants import RULES
from simulation.planted import BUGS, UNPLANTED, Bug

PAGE = Path(__file__).parents[3] / "docs" / "planted-bugs.md"


def test_every_rule_has_a_bug_or_a_reason() -> None:
    broken = {rule for bug in BUGS for rule in bug.rules}
    assert broken | UNPLANTED.keys() == RULES.keys()
    assert not broken & UNPLANTED.keys()


def test_names_are_told_apart() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    assert all(bug.rules for bug in BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_fits_the_code_as_it_is(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)


def test_the_page_names_every_bug() -> None:
    page = PAGE.read_text()
    for bug in BUGS:
        for rule, seed in bug.rules.items():
            assert f"| {bug.name} | {rule} | {seed} |" in page
    assert all(f"| {rule} | {why} |" in page for rule, why in UNPLANTED.items())
