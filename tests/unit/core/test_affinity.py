"""Where tasks with an affinity are offered first, and when they are offered to all."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fleetlog.bus.core import AgentState, Queue, Refusal, Task, decide, due, evolve, next_due_at
from fleetlog.bus.core import affinity as module
from fleetlog.bus.core.affinity import Affinities, Place
from fleetlog.bus.core.commands import GiveAnswer
from fleetlog.schemas.events import TaskEvent, TaskExpired, TaskHeld, TaskQueued
from tests.given import (
    at,
    cancelled,
    claim,
    claimed,
    completed,
    expired,
    fold,
    held,
    queued,
    record,
    retried,
    returned,
    submit,
)

KEY = {"affinity": "shop", "affinity_ms": 5_000}
AGENT = AgentState(
    id="a1", status="running", host="h1", queues=("default",), labels={"host": "h1", "gpu": "yes"}
)
WAITING = fold(held(0, **KEY))
ON_HOST = fold(queued(progress={"host": "h1"}, **KEY))


def told(*events: TaskEvent, affinities: Affinities | None = None) -> Affinities:
    """The fold after the events of one task."""
    known, task = affinities or Affinities(), Task(id="t1")
    for seq, event in enumerate(events, 1):
        entry = record(seq, event)
        before, task = task, evolve(task, entry)
        known.take_task(before, task, entry)
    return known


def with_session(event: Any, session_id: str = "s1") -> Any:
    return msgspec.structs.replace(event, session_id=session_id)


def placed(known: Affinities, task: Task = WAITING, *agents: AgentState) -> Queue:
    return known.placed(task, Queue(id="q"), agents or (AGENT,))


def test_a_task_with_a_key_is_held_until_someone_says_where() -> None:
    event = decide(submit(**KEY), Task(id="t1"), at(0))
    assert isinstance(event, TaskHeld)
    assert due(WAITING, at(0)) == Queue(id="t1-1-queue")


def test_it_goes_where_the_last_one_was_claimed() -> None:
    known = told(queued(**KEY), claimed())
    assert placed(known) == Queue(id="q", host="h1")
    elsewhere = {"agent_id": "a2", "host": "h2"}
    moved = msgspec.structs.replace(claimed(), **elsewhere)
    assert placed(told(queued(**KEY), moved, affinities=known)) == Queue(id="q")
    other = fold(held(0, affinity="another"))
    assert placed(told(queued(**KEY), claimed()), other) == Queue(id="q")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "draining"},
        {"status": "lost"},
        {"host": "h2"},
        {"queues": ("gpu",)},
        {"labels": {"host": "h1"}},
    ],
)
def test_nobody_waits_for_a_host_that_cannot_take_it(change: dict[str, Any]) -> None:
    known = told(queued(**KEY), claimed())
    task = fold(held(0, requires={"gpu": "yes"}, **KEY))
    assert placed(known, task).host == "h1"
    assert placed(known, task, msgspec.structs.replace(AGENT, **change)) == Queue(id="q")
    two = (msgspec.structs.replace(AGENT, id="a0", **change), AGENT)
    assert placed(known, task, *two).host == "h1"


def test_tasks_without_a_key_are_left_alone() -> None:
    assert placed(told(queued(), claimed()), fold(held(0))) == Queue(id="q")
    assert placed(told(queued(**KEY), claimed()), Task(id="t1")) == Queue(id="q")


@pytest.mark.parametrize("end", [completed(2), retried(2), returned(2), cancelled(2, 1)])
def test_the_session_that_an_attempt_left_there_is_named(end: Any) -> None:
    key = {**KEY, "executor": "claude"}
    task = fold(held(0, **key))
    known = told(queued(**key), claimed(), with_session(end))
    assert placed(known, task) == Queue(id="q", host="h1", session_id="s1")
    assert placed(known, fold(held(0, **KEY, executor="codex"))).session_id is None
    without = told(queued(**key), claimed(), end, affinities=known)
    assert placed(without, task).session_id == "s1"
    away = msgspec.structs.replace(claimed(), host="h2")
    there = msgspec.structs.replace(AGENT, host="h2", labels={"host": "h2"})
    assert placed(told(queued(**key), away, affinities=known), task, there) == Queue(
        id="q", host="h2"
    )


def test_the_end_of_what_ran_elsewhere_leaves_no_session() -> None:
    known = told(queued(**KEY), claimed())
    away = msgspec.structs.replace(claimed(), host="h2")
    slow = told(queued(**KEY), away, affinities=known)
    told_late = [queued(**KEY), claimed(), with_session(completed(2))]
    task = Task(id="late")
    for seq, event in enumerate(told_late, 1):
        entry = record(seq, event)
        before, task = task, evolve(task, entry)
        if not isinstance(event, type(claimed())):
            slow.take_task(before, task, entry)
    assert slow.packed() == [Place(key="shop", host="h2")]


def test_a_task_that_never_ran_says_nothing() -> None:
    assert told(queued(**KEY), expired()).packed() == []
    taken_over = told(queued(**KEY), claimed(), claimed(over=2))
    assert [place.host for place in taken_over.packed()] == ["h1"]


def test_the_keys_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 2)
    known = Affinities()
    for key in ("a", "b", "a", "c"):
        told(queued(affinity=key), claimed(), affinities=known)
    assert [place.key for place in known.packed()] == ["a", "c"]
    # The end of one that is forgotten brings nothing back.
    late = fold(queued(affinity="b"), claimed())
    entry = record(3, with_session(completed(2)))
    known.take_task(late, evolve(late, entry), entry)
    assert [place.key for place in known.packed()] == ["a", "c"]
    again = Affinities()
    again.restore(known.packed())
    assert again.packed() == known.packed()


def test_the_offer_names_host_and_session() -> None:
    event = decide(Queue(id="q", host="h1", session_id="s1"), WAITING, at(1))
    assert isinstance(event, TaskQueued)
    assert (event.host, event.session_id) == ("h1", "s1")
    task = fold(held(0, **KEY), event)
    assert (task.host, task.session_id) == ("h1", "s1")
    own = fold(queued(**KEY), claimed(), with_session(retried(2, delay_ms=0), "own"))
    again = decide(Queue(id="q", host="h1", session_id="s1"), own, at(9))
    assert isinstance(again, TaskQueued)
    assert again.session_id == "own"


def test_it_is_offered_to_all_when_the_host_did_not_take_it_in_time() -> None:
    assert ON_HOST.moves_at == at(5) == next_due_at(ON_HOST)
    assert due(ON_HOST, at(4.9)) is None
    assert decide(Queue(id="q"), ON_HOST, at(4.9)) == Refusal("not_due", ON_HOST)
    command = due(ON_HOST, at(5))
    assert command == Queue(id="t1-1-move")
    assert placed(told(queued(**KEY), claimed()), ON_HOST) == Queue(id="q")
    event = decide(command, ON_HOST, at(5))
    assert isinstance(event, TaskQueued)
    assert (event.host, event.attempt) == (None, 1)
    moved = fold(queued(progress={"host": "h1"}, **KEY), event)
    assert (moved.status, moved.offer, moved.moves_at) == ("queued", 2, None)
    assert next_due_at(moved) is None
    stale = decide(claim(1), moved, at(6))
    assert stale == Refusal("stale_offer", moved)


def test_what_was_claimed_does_not_move_and_what_is_late_expires() -> None:
    running = fold(queued(progress={"host": "h1"}, **KEY), claimed())
    assert (running.moves_at, next_due_at(running), due(running, at(99))) == (None, None, None)
    late = fold(queued(progress={"host": "h1"}, start_within_ms=5_000, **KEY))
    command = due(late, at(5))
    assert command is not None
    assert isinstance(decide(command, late, at(5)), TaskExpired)


def test_an_answer_may_name_the_host_that_asked() -> None:
    asking = msgspec.structs.replace(returned(2), error_class="needs_input")
    task = fold(queued(**KEY), claimed(), asking)
    event = decide(GiveAnswer(id="c", asked=3, answer="yes", host="h1"), task, at(9))
    assert isinstance(event, TaskQueued)
    assert event.host == "h1"
