"""Measures every Python file below some folders, one task each: `python examples/measure.py FOLDER…`.

Needs a fleet with the demo's handlers: `fleetlog up --app examples.demo_app:agent`, from the same folder. Each
task has a key made of the file's path and content, so that a second run finds the same tasks, done already.
"""
# ruff: noqa: T201 - a program for people prints

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.progress import Progress

import fleetlog
from fleetlog import TaskSpec, call

T = TypeVar("T")


def python_files(folders: Iterable[str]) -> list[Path]:
    """The files, the same order each time."""
    return sorted(path for folder in folders for path in Path(folder).rglob("*.py"))


def spec_of(path: Path) -> TaskSpec:
    """The file's task; its key is the same as long as the file is."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = call("measure", path=str(path))
    return msgspec.structs.replace(spec, key=f"measure {path} {digest}")


def shown(tasks: Sequence[T]) -> Iterator[T]:
    """The tasks one by one, with a bar on a terminal and a line now and then elsewhere."""
    if Console().is_terminal:
        with Progress(transient=True) as progress:
            yield from progress.track(tasks, description="measuring")
        return
    step = max(1, len(tasks) // 4)
    for number, task in enumerate(tasks, 1):
        yield task
        if number % step == 0:
            print(f"  {number} of {len(tasks)} done", flush=True)


def main(folders: list[str]) -> int:
    """Submits, waits, sums up."""
    with fleetlog.connect() as fleet:
        tasks = fleet.submit_many(spec_of(path) for path in python_files(folders))
        known = sum(task.is_duplicate for task in tasks)
        print(f"{len(tasks)} files: {len(tasks) - known} new tasks, {known} known already")
        outcomes = [task.result(timeout="1m") for task in shown(tasks)]
    failed = [outcome for outcome in outcomes if not outcome.is_completed]
    for outcome in failed:
        print(f"task {outcome.task_id} {outcome.state}: {outcome.error}", file=sys.stderr)
    lines = sum(outcome.result["code_lines"] for outcome in outcomes if outcome.is_completed)
    print(f"{lines} lines of code in {len(outcomes) - len(failed)} files")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
