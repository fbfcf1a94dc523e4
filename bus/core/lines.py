"""Lines of tasks that wait to be let in: one for all that wait for the same, with turns for fair keys in it."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from fleetlog.bus.core.task import Task
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import PRIORITIES

_RANKS: Final = {priority: rank for rank, priority in enumerate(PRIORITIES)}


class Gate(msgspec.Struct, frozen=True):
    """What the tasks of a line wait for."""

    limits: tuple[str, ...]
    """Keys of limits."""
    budgets: tuple[str, ...]
    """Keys of budgets."""
    lane: tuple[str, str] | None
    """Queue and priority, for tasks of which few are on offer at once."""

    @property
    def is_strict(self) -> bool:
        """No offer waits for a slot: it might stand there when the budget is used up."""
        return bool(self.budgets)

    @property
    def name(self) -> str:
        """Its name among all lines."""
        return msgspec.json.encode(self).decode()


def gate_of(spec: TaskSpec, task_id: str) -> Gate:
    """What a task waits for."""
    lane = (spec.queue, spec.priority) if spec.is_rationed else None
    return Gate(tuple(sorted(spec.limits)), tuple(sorted(spec.budget_keys(task_id))), lane)


class Line:
    """The tasks that wait for one gate: the high before the low, then by age; with fair keys in turns."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.waiting: set[str] = set()
        """Task ids."""
        self._by_key: OrderedDict[str, list[tuple[int, datetime, str]]] = OrderedDict()

    @property
    def is_waiting(self) -> bool:
        """Someone stands in it."""
        return bool(self.waiting)

    def add(self, task: Task) -> None:
        """At the place that its priority and age give it."""
        if task.spec is None or task.submitted_at is None or task.id in self.waiting:
            return
        self.waiting.add(task.id)
        place = (_RANKS[task.spec.priority], task.submitted_at, task.id)
        heapq.heappush(self._by_key.setdefault(task.spec.fair_key or "", []), place)

    def take(self, most: int, tasks: Mapping[str, Task]) -> Iterator[Task]:
        """Takes out up to `most` that are still to be let in: one of each key, and again."""
        while most > 0 and self._by_key:
            key, places = self._by_key.popitem(last=False)
            task = self._take_first(places, tasks)
            if places:
                self._by_key[key] = places
            if task is not None:
                most -= 1
                yield task

    def _take_first(
        self, places: list[tuple[int, datetime, str]], tasks: Mapping[str, Task]
    ) -> Task | None:
        while places:
            _, _, task_id = heapq.heappop(places)
            # One that has left may have a place still.
            if task_id in self.waiting:
                self.waiting.discard(task_id)
                return tasks.get(task_id)
        return None


class Lines:
    """All lines, and which of them something has happened to."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._line_of: dict[str, str] = {}
        self._watching: dict[str, dict[str, None]] = {}
        self._touched: OrderedDict[str, None] = OrderedDict()

    def enter(self, task: Task, gate: Gate) -> None:
        """The task gets into its line."""
        name = gate.name
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line(gate)
            for watched in _watched(gate):
                self._watching.setdefault(watched, {})[name] = None
        line.add(task)
        self._line_of[task.id] = name
        self._touched[name] = None

    def leave(self, task_id: str) -> None:
        """The task goes out of its line, if it stands in one."""
        line = self._lines.get(self._line_of.pop(task_id, ""))
        if line is not None:
            line.waiting.discard(task_id)
            self.drop_empty(line)

    def touch(self, watched: str) -> None:
        """Something has happened to a limit, a budget or a lane."""
        self._touched.update(self._watching.get(watched, {}))

    @property
    def is_empty(self) -> bool:
        """Nobody waits."""
        return not self._lines

    def touch_line(self, name: str) -> None:
        """One line is to be looked at."""
        if name in self._lines:
            self._touched[name] = None

    def touch_all(self) -> None:
        """Every line is to be looked at."""
        self._touched.update(dict.fromkeys(self._lines))

    def next_touched(self) -> Line | None:
        """The next line to look at."""
        while self._touched:
            name, _ = self._touched.popitem(last=False)
            if name in self._lines:
                return self._lines[name]
        return None

    def drop_empty(self, line: Line) -> None:
        """A line in which nobody stands is not kept."""
        name = line.gate.name
        if line.is_waiting or self._lines.pop(name, None) is None:
            return
        for watched in _watched(line.gate):
            watching = self._watching[watched]
            watching.pop(name, None)
            if not watching:
                del self._watching[watched]


def _watched(gate: Gate) -> Iterator[str]:
    yield from (f"limit {key_token(key)}" for key in gate.limits)
    yield from (f"budget {key_token(key)}" for key in gate.budgets)
    if gate.lane is not None:
        yield f"lane {gate.lane[0]} {gate.lane[1]}"
