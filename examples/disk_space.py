"""Checks the disks of three hosts at once, and prints one report: `python examples/disk_space.py`.

Needs a fleet with the demo's handlers: `fleetlog up --app examples.demo_app:agent`. The task `supervise` fans
out into a check for each host, and ends; `report` runs when all of them have ended, whatever became of each.
One of these fails.
"""
# ruff: noqa: T201 - a program for people prints

from __future__ import annotations

import sys

import fleetlog
from fleetlog import call

HOSTS = ["cube", "clifford", "zerg"]


def main() -> int:
    """Submits one task and waits for what it leads to."""
    with fleetlog.connect() as fleet:
        task = fleet.submit(call("supervise", hosts=HOSTS))
        outcome = task.result(timeout="1m")
    print(outcome.result if outcome.is_completed else f"{outcome.state}: {outcome.error}")
    print(f"See it with: fleetlog barrier show {task.task_id}")
    return 0 if outcome.is_completed else 1


if __name__ == "__main__":
    sys.exit(main())
