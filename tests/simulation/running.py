"""Runs seeds, and tells the story of each that goes wrong."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

from fleetlog.bus.collector import calm_collector
from simulation.coverage import Reached
from simulation.finding import BUG_STEPS, find_bugs
from simulation.invariants import Violation
from simulation.narrator import told
from simulation.shrinking import shrink
from simulation.story import Story

STEPS = 120
PROGRESS_S = 2.0
CHUNK = 5
CHUNKS_PER_CHILD = 20


class Report(NamedTuple):
    """What came of some seeds."""

    wrong: list[tuple[int, list[Violation]]]
    """Those that went wrong, and how."""
    runs: int
    events: int
    busy_s: float
    """Of one processor."""
    reached: Reached
    peak_mb: float


def run_some(seeds: Sequence[int], steps: int) -> Report:
    """Runs seeds, in a process of its own."""
    logging.disable(logging.CRITICAL)
    calm_collector()
    started = time.process_time()
    wrong: list[tuple[int, list[Violation]]] = []
    reached = Reached()
    events = 0
    for seed in seeds:
        story = Story(seed, steps)
        violations = story.run()
        events += len(story.world.log)
        reached.look_at(story.world.log, story.troubles)
        if violations:
            wrong.append((seed, violations))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return Report(wrong, len(seeds), events, time.process_time() - started, reached, peak_mb)


def main(argv: Sequence[str]) -> int:
    """See `python -m simulation --help`; answers the exit code."""
    options = _read(argv)
    if options.bugs:
        return find_bugs(options.steps or BUG_STEPS, is_markdown=options.markdown)
    steps = options.steps or STEPS
    first, last = options.seeds
    whole = _Whole(last - first + 1)
    chunks = [range(at, min(at + CHUNK, last + 1)) for at in range(first, last + 1, CHUNK)]
    # Not `ProcessPoolExecutor`: Python 3.11's may wait for ever once a child has had its share of tasks.
    with get_context("spawn").Pool(options.jobs, maxtasksperchild=CHUNKS_PER_CHILD) as pool:
        for report in pool.imap_unordered(partial(run_some, steps=steps), chunks):
            whole.add(report)
    whole.end()
    for seed, violations in whole.wrong[: options.stories]:
        tell(seed, steps, violations)
    missing = whole.reached.missing(whole.runs)
    if missing is not None:
        _say(f"coverage: {missing}")
    return 1 if whole.wrong or missing else 0


def tell(seed: int, steps: int, violations: list[Violation]) -> None:
    """How to see it again, and the shortest story that goes wrong in the same way."""
    logging.disable(logging.CRITICAL)
    _say(f"\nseed {seed} goes wrong: {violations[0].rule}: {violations[0].text}")
    _say(f"replay it with: make simulate SEEDS={seed}..{seed} STEPS={steps}")
    story, left = shrink(seed, steps, violations[0].rule)
    _say(f"with {len(story.steps)} of its {steps} steps:")
    for line in told(story.told, story.world.log, left[:3]):
        _say(line)


class _Whole:
    """All that was run so far."""

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.wrong: list[tuple[int, list[Violation]]] = []
        self.runs = self.events = 0
        self.busy_s = self.peak_mb = 0.0
        self.reached = Reached()
        self.started = time.monotonic()
        self.said_at = self.started

    def add(self, report: Report) -> None:
        self.wrong = sorted(self.wrong + report.wrong, key=lambda each: each[0])
        self.runs += report.runs
        self.events += report.events
        self.busy_s += report.busy_s
        self.peak_mb = max(self.peak_mb, report.peak_mb)
        self.reached.add(report.reached)
        now = time.monotonic()
        if now - self.said_at > PROGRESS_S:
            self.said_at = now
            left_s = (now - self.started) * (self.seeds - self.runs) / self.runs
            _say(
                f"{self.runs} of {self.seeds} seeds, {self.events:,} events, {len(self.wrong)} wrong,"
                f" {left_s:.0f} s left"
            )

    def end(self) -> None:
        passed_s = time.monotonic() - self.started
        _say(
            f"{self.runs} seeds in {passed_s:.0f} s, {self.events:,} events:"
            f" {self.events / self.busy_s / 1000:.1f} runs of 1,000 events a second of one core,"
            f" {self.peak_mb:.0f} MB at most; {len(self.wrong)} went wrong"
        )
        _say(
            f"reached: {len(self.reached.steps)} different steps, {len(self.reached.troubles)} different"
            " troubles with what followed them"
        )


def _read(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("simulation", description=__doc__)
    parser.add_argument(
        "seeds", type=_seeds, nargs="?", default=(0, 99), help="A..B, or one number"
    )
    parser.add_argument("--bugs", action="store_true", help="plant bugs instead, and find each")
    parser.add_argument("--markdown", action="store_true", help="of the bugs: as a page")
    parser.add_argument("--steps", type=int, help="things done in each run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--stories", type=int, default=3, help="how many failures are told")
    return parser.parse_args(argv)


def _seeds(text: str) -> tuple[int, int]:
    first, _, last = text.partition("..")
    return int(first), int(last or first)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
