"""The outcomes of a map's tasks in the order of its items."""

from __future__ import annotations

import sys
from collections import Counter, deque
from typing import Any, Final

from fleetlog.bus.outcomes import Outcome
from fleetlog.bus.task_set import TaskSet
from fleetlog.cli.failures import REFUSED, say
from fleetlog.cli.outcomes import outcome_fields
from fleetlog.cli.rendering import json_text, one_line, shortened, write_json

FAILURES_SHOWN: Final = 10
_ERROR_WIDTH: Final = 300


class MapOutcomes:
    """Gets outcomes as they come and tells them in order: line by line for people, at the end for programs."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._order: deque[str] = deque()
        self._known: dict[str, Outcome] = {}
        # Two items may be one task, by their key: such a one is not forgotten after its first telling.
        self._kept: set[str] = set()
        self._states: Counter[str] = Counter()
        self._told = 0

    @property
    def exit_code(self) -> int:
        """0 if all have completed."""
        return 0 if set(self._states) <= {"completed"} else REFUSED

    def expect(self, task_id: str, *, is_duplicate: bool) -> None:
        """The next item is this task."""
        self._order.append(task_id)
        if is_duplicate:
            self._kept.add(task_id)
        self._tell_ready()

    def take(self, outcome: Outcome) -> None:
        """One has settled."""
        self._known[outcome.task_id] = outcome
        if self._order and self._order[0] == outcome.task_id:
            self._tell_ready()

    def finish(self, tasks: TaskSet) -> None:
        """Tells the rest; what has not settled stands there with its present state."""
        if self._is_json:
            self._write_json(tasks)
            return
        if left := len(self._order):
            say(f"{left} items are not shown: the first of them has not settled in time, all go on")
        sys.stdout.flush()
        counted = ", ".join(f"{count} {state}" for state, count in self._states.items())
        say(f"{self._told} items: {counted}" if self._told else "there were no items")

    def _tell_ready(self) -> None:
        while not self._is_json and self._order and self._order[0] in self._known:
            task_id = self._order.popleft()
            keep = task_id in self._kept
            outcome = self._known[task_id] if keep else self._known.pop(task_id)
            self._count(outcome)
            self._told += 1
            sys.stdout.write(json_text(outcome.result) + "\n")
            if not outcome.is_completed:
                self._tell_failure(outcome)

    def _tell_failure(self, outcome: Outcome) -> None:
        failures = self._told - self._states["completed"]
        if failures <= FAILURES_SHOWN:
            why = shortened(one_line(outcome.error or "no reason given"), _ERROR_WIDTH)
            say(f"item {self._told}, task {outcome.task_id}: {outcome.state}: {why}")
        elif failures == FAILURES_SHOWN + 1:
            say("more of them are not shown")

    def _count(self, outcome: Outcome) -> None:
        self._states[outcome.state] += 1

    def _write_json(self, tasks: TaskSet) -> None:
        children: list[dict[str, Any]] = []
        for task_id in self._order:
            state = tasks.state_of(task_id)
            outcome = self._known.get(task_id) or Outcome(task_id=task_id, state=state)
            self._count(outcome)
            children.append(outcome_fields(outcome))
        succeeded = self._states["completed"]
        failed = sum(child["task_id"] in self._known for child in children) - succeeded
        is_settled = succeeded + failed == len(children)
        write_json(
            {
                "barrier_id": None,
                "state": ("failed" if failed else "completed") if is_settled else "running",
                "succeeded": succeeded,
                "failed": failed,
                "children": children,
                "continuation": None,
            }
        )
