"""The fold of schedules: what it holds, what is owed, and when to look again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fleetlog.bus.core import Task
from fleetlog.bus.core.evolve import evolve
from fleetlog.bus.core.schedule import task_id_of
from fleetlog.bus.core.schedules import Schedules
from fleetlog.schemas.events import (
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSet,
    TaskCancelled,
    TaskQueued,
)
from fleetlog.schemas.specs import TaskSpec
from tests.given import T0, at, record

STAMP: dict[str, Any] = {"id": "e", "occurred_at": T0}


class Fold:
    """Schedules, and the tasks that they made; event n is stored n - 1 seconds after the first."""

    def __init__(self) -> None:
        self.schedules = Schedules()
        self.tasks: dict[str, Task] = {}
        self.seq = 0

    def say(self, name: str, event: Any) -> None:
        self.seq += 1
        self.schedules.take(name, record(self.seq, event))

    def task(self, task_id: str, event: Any) -> None:
        self.seq += 1
        before = self.tasks.get(task_id, Task(id=task_id))
        told = record(self.seq, event)
        self.tasks[task_id] = evolve(before, told)
        self.schedules.take_task(before, self.tasks[task_id], told)

    def fire(self, name: str, instant: datetime) -> str:
        task_id = task_id_of(name, instant)
        spec = TaskSpec(handler="h", schedule=name)
        self.task(task_id, TaskQueued(spec=spec, digest="d", cause="e", **STAMP))
        return task_id

    def owed(self, now_s: float, most: int = 10) -> list[tuple[str, list[float]]]:
        found = self.schedules.owed(at(now_s), most)
        return [
            (each.schedule.name, [(i - T0).total_seconds() for i in each.instants])
            for each in found
        ]


def every(ms: int, **more: Any) -> ScheduleSet:
    return ScheduleSet(spec=TaskSpec(handler="h"), digest="d", every_ms=ms, **STAMP, **more)


def test_each_instant_is_handed_out_once() -> None:
    fold = Fold()
    fold.say("s", every(10_000))
    assert fold.schedules.next_at() == at(10)
    assert fold.owed(9) == []
    assert fold.owed(25) == [("s", [10, 20])]
    assert fold.owed(40) == []
    fold.schedules.deal("s", at(20))
    fold.schedules.go_on("s")
    assert fold.schedules.next_at() == at(30)
    assert fold.owed(40) == [("s", [30, 40])]


def test_what_could_not_be_done_is_owed_again() -> None:
    fold = Fold()
    fold.say("s", every(10_000))
    assert fold.owed(25) == [("s", [10, 20])]
    fold.schedules.deal("s", at(10))
    fold.schedules.go_on("s")
    assert fold.owed(26) == [("s", [20])]


def test_what_another_coordinator_made_is_not_owed() -> None:
    fold = Fold()
    fold.say("s", every(10_000))
    fold.fire("s", at(10))
    fold.fire("s", at(20))
    assert fold.owed(25) == []
    assert fold.schedules.next_at() == at(30)


def test_a_paused_one_owes_nothing_and_begins_anew() -> None:
    fold = Fold()
    fold.say("s", every(1_000))
    fold.say("s", SchedulePaused(**STAMP))
    assert fold.schedules.next_at() is None
    fold.fire("s", at(1))
    assert fold.owed(30) == []
    fold.seq = 30
    fold.say("s", ScheduleResumed(**STAMP))
    assert fold.owed(32) == [("s", [31, 32])]


def test_a_removed_one_is_forgotten_and_its_tasks_are_nobodys() -> None:
    fold = Fold()
    fold.say("s", every(1_000))
    fold.schedules.deal("s", at(5))
    fold.say("s", ScheduleRemoved(**STAMP))
    assert fold.schedules.known == {}
    assert fold.owed(30) == []
    fold.schedules.go_on("s")
    fold.fire("s", at(1))
    assert fold.schedules.next_at() is None
    fold.say("s", every(1_000))
    assert fold.owed(5) == [("s", [4, 5])]


def test_a_rule_without_instants_is_left_alone() -> None:
    fold = Fold()
    fold.say("s", ScheduleSet(spec=TaskSpec(handler="h"), digest="d", cron="?", **STAMP))
    assert fold.schedules.next_at() is None


def test_of_its_last_task_it_knows_whether_it_has_settled() -> None:
    fold = Fold()
    fold.say("s", every(1_000))
    task_id = fold.fire("s", at(1))
    assert fold.schedules.known["s"].last_settled_at is None
    fold.task(task_id, TaskQueued(spec=TaskSpec(handler="h", schedule="s"), digest="d", **STAMP))
    fold.task("other", TaskQueued(spec=TaskSpec(handler="h"), digest="d", **STAMP))
    assert fold.schedules.known["s"].last_settled_at is None
    fold.task(task_id, TaskCancelled(attempts=0, **STAMP))
    assert fold.schedules.known["s"].last_settled_at == at(4)


def test_no_more_schedules_than_asked_for_and_none_forgotten() -> None:
    fold = Fold()
    for number in range(5):
        fold.say(f"s{number}", every(10_000))
    fold.seq = 0
    names = [name for _ in range(4) for name, _ in fold.owed(15, most=2)]
    assert sorted(names) == ["s0", "s1", "s2", "s3", "s4"]


def test_a_restored_one_owes_the_same() -> None:
    fold = Fold()
    fold.say("s", every(10_000))
    fold.fire("s", at(10))
    fold.say("p", every(10_000))
    fold.say("p", SchedulePaused(**STAMP))
    restored = Fold()
    restored.schedules.restore(fold.schedules.known.values())
    assert restored.schedules.known == fold.schedules.known
    assert restored.owed(25) == fold.owed(25) == [("s", [20])]
