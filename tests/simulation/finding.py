"""Looks for planted bugs, and tells which seed showed what of them."""

from __future__ import annotations

import logging
import sys
from typing import NamedTuple

from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

from simulation.invariants import RULES, Violation
from simulation.planted import BUGS, UNPLANTED, Bug
from simulation.story import Story

BUG_SEEDS = 200
"""Within so many a planted bug has to be found."""
BUG_STEPS = 60
"""So long are the runs in which it is looked for."""
_HEAD = """# Planted bugs

Written by `PYTHONPATH=tests python -m simulation --bugs --markdown`. Each of these bugs was made in the running
code, by a change of one function (`tests/simulation/planted`), and a run of {steps} steps with the seed on the
right broke the rule (`tests/simulation/invariants/rules.py`).

| What is wrong | Rule | Seed |
|---|---|---|
"""
_FOOT = """
No bug here stands for the others of the {count} rules:

| Rule | Why |
|---|---|
"""


class Found(NamedTuple):
    """A bug that was seen."""

    seed: int
    """Of the run."""
    violation: Violation
    """What was wrong in it."""


def find(bug: Bug, steps: int) -> dict[str, Found]:
    """The rules of a planted bug, each with the first seed that shows it broken."""
    found: dict[str, Found] = {}
    for seed in dict.fromkeys((*bug.rules.values(), *range(BUG_SEEDS))):
        with MonkeyPatch.context() as patch:
            bug.plant(patch)
            violations = Story(seed, steps).run()
        for each in violations:
            if each.rule in bug.rules:
                found.setdefault(each.rule, Found(seed, each))
        if len(found) == len(bug.rules):
            break
    return found


def find_bugs(steps: int, *, is_markdown: bool) -> int:
    """Plants every bug in turn, looks for it and tells; answers the exit code."""
    logging.disable(logging.CRITICAL)
    missed = 0
    if is_markdown:
        sys.stdout.write(_HEAD.format(steps=steps))
    for bug in BUGS:
        found = find(bug, steps)
        missed += len(found) < len(bug.rules)
        for rule in bug.rules:
            told = _as_row(bug, rule, found) if is_markdown else _as_line(bug, rule, found)
            sys.stdout.write(told)
        sys.stdout.flush()
    if is_markdown:
        rows = "".join(f"| {rule} | {why} |\n" for rule, why in UNPLANTED.items())
        sys.stdout.write(_FOOT.format(count=len(RULES)) + rows)
    else:
        sys.stdout.write(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs were found\n")
    return 1 if missed else 0


def _as_line(bug: Bug, rule: str, found: dict[str, Found]) -> str:
    if rule not in found:
        return f"{bug.name}: {rule}: NOT FOUND\n"
    seed, violation = found[rule]
    return f"{bug.name}: seed {seed}: {rule}: {violation.text}\n"


def _as_row(bug: Bug, rule: str, found: dict[str, Found]) -> str:
    return f"| {bug.name} | {rule} | {found[rule].seed if rule in found else 'not found'} |\n"
