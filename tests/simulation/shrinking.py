"""From a run that goes wrong to a short one that goes wrong in the same way."""

from __future__ import annotations

from simulation.invariants import Violation
from simulation.story import Story

TRIES_MAX = 60


def shrink(seed: int, steps: int, rule: str) -> tuple[Story, list[Violation]]:
    """Leaves out as many steps as it can, halves first, while the same rule is broken."""
    story = Story(seed, steps)
    wrong = _of_rule(story, rule)
    kept = [step.number for step in story.steps]
    size, tries = len(kept) // 2, 0
    while size and tries < TRIES_MAX:
        start = 0
        while start < len(kept) and tries < TRIES_MAX:
            tries += 1
            rest = kept[:start] + kept[start + size :]
            shorter = Story(seed, steps, frozenset(rest))
            if found := _of_rule(shorter, rule):
                story, wrong, kept = shorter, found, rest
            else:
                start += size
        size //= 2
    return story, wrong


def _of_rule(story: Story, rule: str) -> list[Violation]:
    return [violation for violation in story.run() if violation.rule == rule]
