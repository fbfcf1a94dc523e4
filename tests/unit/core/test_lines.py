"""The lines of tasks that wait to be let in, by themselves."""

from __future__ import annotations

from datetime import timedelta

from fleetlog.bus.core import Task
from fleetlog.bus.core.lines import Line, Lines, gate_of
from fleetlog.schemas.specs import TaskSpec
from tests.given import T0


def waiting(task_id: str, after_s: int = 0, **spec: object) -> Task:
    full = TaskSpec(handler="h", **{"limits": ("k",), **spec})  # type: ignore[arg-type]
    return Task(id=task_id, spec=full, submitted_at=T0 + timedelta(seconds=after_s))


def line_of(*tasks: Task) -> tuple[Line, dict[str, Task]]:
    line = Line(gate_of(tasks[0].spec or TaskSpec(handler="h"), "t"))
    for task in tasks:
        line.add(task)
    return line, {task.id: task for task in tasks}


def test_who_stands_in_a_line_keeps_the_place() -> None:
    first, second = waiting("a"), waiting("b", 1)
    line, tasks = line_of(first, second, waiting("a", 2))
    assert [task.id for task in line.take(9, tasks)] == ["a", "b"]
    assert not line.is_waiting


def test_who_left_is_passed_over() -> None:
    line, tasks = line_of(waiting("a"), waiting("b", 1), waiting("c", 2, fair_key="f"))
    line.leave("a")
    line.leave("c")
    line.leave("never there")
    assert [task.id for task in line.take(9, tasks)] == ["b"]
    assert list(line.take(9, tasks)) == []


def test_a_task_that_is_not_known_any_more_takes_no_turn() -> None:
    line, tasks = line_of(waiting("a"), waiting("b", 1))
    del tasks["a"]
    assert [task.id for task in line.take(1, tasks)] == ["b"]


def test_a_line_that_has_emptied_is_not_looked_at() -> None:
    lines = Lines()
    for task in (waiting("a"), waiting("b", limits=("other",))):
        assert task.spec is not None
        lines.enter(task, gate_of(task.spec, task.id))
    lines.leave("a")
    lines.leave("a")
    seen = [line.gate.limits for line in iter(lines.next_touched, None)]
    assert seen == [("other",)]
    lines.leave("b")
    assert lines.is_empty
