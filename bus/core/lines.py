"""Lines of tasks that wait to be let in: one for all that wait for the same, with turns for fair keys in it."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from fleetlog.bus.core.credential import credential_of
from fleetlog.bus.core.task import Task
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import PRIORITIES, Priority

_STALE_MAX: Final = 10
_RANKS: Final = {priority: rank for rank, priority in enumerate(PRIORITIES)}


Place = tuple[int, datetime, str]
"""In a line: the priority's rank, when the task was submitted, its id."""


class Lane(msgspec.Struct, frozen=True):
    """Tasks that the same agents can take, of one priority."""

    queue: str
    """Which the agents serve."""
    priority: Priority
    """The tasks'."""
    requires: tuple[tuple[str, str], ...] = ()
    """The labels that the agents have, in order."""

    @property
    def name(self) -> str:
        """Its name among all lanes."""
        return msgspec.json.encode(self).decode()


def lane_of(spec: TaskSpec) -> Lane:
    """Where a task is offered."""
    return Lane(spec.queue, spec.priority, tuple(sorted(spec.requires.items())))


class Gate(msgspec.Struct, frozen=True):
    """What the tasks of a line wait for."""

    limits: tuple[str, ...]
    """Keys of limits."""
    budgets: tuple[str, ...]
    """Keys of budgets."""
    lane: Lane | None
    """Where they are offered, if that counts: few are at once, or not every agent can take them."""
    is_rationed: bool = False
    """Of them few are on offer at once."""
    credential: str | None = None
    """What their attempts need: while it is paused they would stand in the way of others."""

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
    lane = lane_of(spec) if spec.is_rationed or spec.requires else None
    keys = spec.budget_keys(task_id)
    return Gate(
        limits=tuple(sorted(spec.limits)),
        budgets=tuple(sorted(keys)),
        lane=lane,
        is_rationed=spec.is_rationed,
        credential=credential_of(spec),
    )


class Line:
    """The tasks that wait for one gate: the high before the low, then by age; with fair keys in turns."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._places: dict[str, Place] = {}
        self._by_key: OrderedDict[str, list[Place]] = OrderedDict()
        self._stale_count = 0

    @property
    def is_waiting(self) -> bool:
        """Someone stands in it."""
        return bool(self._places)

    def add(self, task: Task) -> None:
        """At the place that its priority and age give it."""
        if task.spec is None or task.submitted_at is None or task.id in self._places:
            return
        place = (_RANKS[task.spec.priority], task.submitted_at, task.id)
        self._places[task.id] = place
        heapq.heappush(self._by_key.setdefault(task.spec.fair_key or "", []), place)

    def leave(self, task_id: str) -> None:
        """The task goes out, if it stands in it."""
        if self._places.pop(task_id, None) is None:
            return
        self._stale_count += 1
        if self._stale_count > len(self._places) + _STALE_MAX:
            self._sweep()

    def _sweep(self) -> None:
        """Where nobody is let in, places of those that have left would stay for ever."""
        self._stale_count = 0
        # Sorted, a list is a heap.
        kept = (
            (key, sorted(filter(self._is_taken, places))) for key, places in self._by_key.items()
        )
        self._by_key = OrderedDict((key, places) for key, places in kept if places)

    def _is_taken(self, place: Place) -> bool:
        # The very place: whoever left and came again, replaced perhaps, stands at another one.
        return self._places.get(place[2]) is place

    @property
    def first(self) -> Place | None:
        """Of whose turn it is."""
        heads = map(self._head, self._by_key.values())
        return next((head for head in heads if head is not None), None)

    def _head(self, places: list[Place]) -> Place | None:
        while places and not self._is_taken(places[0]):
            heapq.heappop(places)
        return places[0] if places else None

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

    def _take_first(self, places: list[Place], tasks: Mapping[str, Task]) -> Task | None:
        while places:
            place = heapq.heappop(places)
            if self._is_taken(place):
                del self._places[place[2]]
                return tasks.get(place[2])
            self._stale_count = max(0, self._stale_count - 1)
        return None


class Lines:
    """All lines, and which of them something has happened to."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._line_of: dict[str, str] = {}
        self._watching: dict[str, dict[str, None]] = {}
        self._touched: set[str] = set()
        self._turns: list[tuple[Place, str]] = []

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
        if (first := line.first) is not None and first[2] == task.id:
            self._touched.discard(name)  # its turn has become an earlier one
        self.touch_line(name)

    def leave(self, task_id: str) -> None:
        """The task goes out of its line, if it stands in one."""
        line = self._lines.get(self._line_of.pop(task_id, ""))
        if line is not None:
            line.leave(task_id)
            self.drop_empty(line)

    def touch(self, watched: str) -> None:
        """Something has happened to a limit, a budget or a lane."""
        for name in self._watching.get(watched, ()):
            self.touch_line(name)

    @property
    def is_empty(self) -> bool:
        """Nobody waits."""
        return not self._lines

    def touch_line(self, name: str) -> None:
        """One line is to be looked at."""
        line = self._lines.get(name)
        if line is None or name in self._touched or (first := line.first) is None:
            return
        self._touched.add(name)
        heapq.heappush(self._turns, (first, name))

    def touch_all(self) -> None:
        """Every line is to be looked at."""
        for name in self._lines:
            self.touch_line(name)

    def next_touched(self) -> Line | None:
        """The next line to look at: what several wait for goes to the high and the old first, as in one."""
        while self._turns:
            _, name = heapq.heappop(self._turns)
            self._touched.discard(name)
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
    if gate.credential is not None:
        yield f"credential {gate.credential}"
    if gate.lane is not None:
        yield f"lane {gate.lane.name}"
        yield f"queue {gate.lane.queue}"
