"""Barriers and their members, as a log leads to them, in one batch and in many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.projections.store import Store
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierOpened,
    BarrierReleased,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskQueued,
)
from fleetlog.schemas.fan_outs import FanOutSpec, plan_fan_out
from fleetlog.schemas.objects import ObjectRef
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import Log, claim, instant, make

T0_US = 1_767_225_600_000_000
SPEC = TaskSpec(handler="h")
REF = ObjectRef(sha256="ab" * 32, size=99_999)

Apply = Callable[[Log], None]


@pytest.fixture(params=["at once", "one by one"])
def apply(request: pytest.FixtureRequest, store: Store) -> Apply:
    def whole(log: Log) -> None:
        store.apply(log.messages)

    def each(log: Log) -> None:
        for message in log.messages:
            store.apply([message])

    return whole if request.param == "at once" else each


def second(n: int) -> object:
    return instant(T0_US + n * 1_000_000)


def plan(barrier_id: str, count: int = 2, **options: Any) -> FanOutSpec:
    options.setdefault("then", SPEC)
    return plan_fan_out(barrier_id, [SPEC] * count, **options)


def opened(log: Log, barrier_id: str, fan_out: FanOutSpec) -> int:
    return log.barrier(barrier_id, make(BarrierOpened, fan_out=fan_out, digest="d"))


def make_all(log: Log, fan_out: FanOutSpec) -> None:
    """The first events of what a fan-out leads to."""
    for member in fan_out.members:
        if member.spec is not None:
            log.task(member.task_id, make(TaskQueued, spec=member.spec, digest="d"))
    if fan_out.then is not None:
        log.task(fan_out.then.task_id, make(TaskHeld, spec=fan_out.then.spec, digest="d"))


def run(log: Log, task_id: str, **outcome: Any) -> int:
    """Claims what was queued last and ends it; answers the sequence of its outcome."""
    offer = max(
        message.seq for message in log.messages if f".task.{task_id}.default" in message.subject
    )
    fence = log.task(task_id, claim(offer))
    kind = TaskFailed if "error" in outcome else TaskCompleted
    return log.task(task_id, make(kind, attempts=1, fence=fence, **outcome))


def barrier(store: Store, barrier_id: str) -> dict[str, Any]:
    [found] = rows(store, f"FROM barriers WHERE barrier_id = '{barrier_id}'")
    return found


def members(store: Store, barrier_id: str, columns: str) -> list[tuple[Any, ...]]:
    query = f"FROM barrier_members WHERE barrier_id = '{barrier_id}' ORDER BY position, task_id"
    return [tuple(row.values()) for row in rows(store, f"SELECT {columns} {query}")]


def test_an_open_barrier_counts_what_its_members_have_reached(store: Store, apply: Apply) -> None:
    log = Log()
    fan_out = plan("b", 4, policy="quorum", quorum=3, deadline_ms=60_000, stragglers="wait")
    opened(log, "b", fan_out)  # 1
    make_all(log, fan_out)
    run(log, "b-1")
    run(log, "b-2", error="no", error_class="error")
    log.task("b-4", claim(5))
    apply(log)
    found = barrier(store, "b")
    assert {name: found[name] for name in ("state", "policy", "quorum", "stragglers")} == {
        "state": "open",
        "policy": "quorum",
        "quorum": 3,
        "stragglers": "wait",
    }
    assert (found["expected"], found["settled"], found["succeeded"]) == (4, 2, 1)
    assert (found["opened_at"], found["deadline_at"]) == (second(1), second(61))
    assert (found["continuation_id"], found["parent_id"]) == ("b-then", None)
    assert (found["released_at"], found["ended_at"], found["reason"]) == (None, None, None)
    assert members(store, "b", "position, task_id, handler, state, error") == [
        (1, "b-1", "h", "completed", None),
        (2, "b-2", "h", "failed", "no"),
        (3, "b-3", "h", "queued", None),
        (4, "b-4", "h", "claimed", None),
    ]
    held = rows(store, "SELECT state, continues, barrier_id FROM tasks WHERE task_id = 'b-then'")
    assert held == [{"state": "held", "continues": "b", "barrier_id": None}]
    of_it = rows(store, "SELECT task_id FROM tasks WHERE barrier_id = 'b' ORDER BY task_id")
    assert [row["task_id"] for row in of_it] == ["b-1", "b-2", "b-3", "b-4"]
    said = rows(store, "SELECT seq FROM events WHERE barrier_id = 'b'")
    assert said == [{"seq": 1}]


def test_a_release_stands_whatever_its_members_do_afterwards(store: Store, apply: Apply) -> None:
    log = Log()
    fan_out = plan("b", 2, policy="any", stragglers="wait")
    opened(log, "b", fan_out)
    make_all(log, fan_out)
    first = run(log, "b-2")
    counts = {"opened": 1, "expected": 2, "settled": 1, "succeeded": 1}
    at = log.barrier("b", make(BarrierReleased, outcomes=(0, first), reason="one", **counts))
    second_end = run(log, "b-1")
    log.barrier("b", make(BarrierAbandoned, why="cancelled", error="too late"))
    opened(log, "b", plan("b", 9))
    apply(log)
    found = barrier(store, "b")
    assert (found["state"], found["settled"], found["succeeded"]) == ("released", 1, 1)
    assert found["deadline_at"] is None
    assert (found["released_at"], found["ended_at"]) == (second(at), second(at))
    assert (found["why"], found["reason"]) == (None, "one")
    assert members(store, "b", "task_id, state, settled_seq") == [
        ("b-1", "completed", second_end),
        ("b-2", "completed", first),
    ]


def test_what_was_abandoned_from_outside_is_counted_as_of_then(store: Store, apply: Apply) -> None:
    log = Log()
    fan_out = plan("b", 3)
    opened(log, "b", fan_out)
    make_all(log, fan_out)
    run(log, "b-1")
    at = log.barrier("b", make(BarrierAbandoned, why="cancelled", error="wrong day", actor="ann"))
    log.task("b-2", make(TaskCancelled, attempts=0))
    other = plan("c", 3, policy="all")
    opened(log, "c", other)
    counts = {"expected": 3, "settled": 2, "succeeded": 1}
    log.barrier("c", make(BarrierAbandoned, why="policy", error="b-1 failed", **counts))
    apply(log)
    found = barrier(store, "b")
    assert (found["state"], found["settled"], found["succeeded"]) == ("abandoned", 1, 1)
    assert (found["why"], found["reason"], found["actor"]) == ("cancelled", "wrong day", "ann")
    assert (found["released_at"], found["ended_at"]) == (None, second(at))
    assert found["deadline_at"] is None
    policy = barrier(store, "c")
    assert (policy["settled"], policy["succeeded"], policy["why"]) == (2, 1, "policy")
    # Nobody has made its members.
    assert {row[1:] for row in members(store, "c", "position, handler, state")} == {(None, None)}


def test_a_task_that_fans_out_is_settled_by_its_continuation(store: Store, apply: Apply) -> None:
    log = Log()
    top = plan("b", 3)
    opened(log, "b", top)
    make_all(log, top)
    # The first goes on as its continuation, and that as another one; the second has none.
    inner, last = plan("b-1", 1, parent_id="b-1"), plan("b-1-then", 0)
    run(log, "b-1", fan_out=inner)
    make_all(log, inner)
    run(log, "b-1-1")
    log.task("b-1-then", make(TaskQueued, spec=SPEC, digest="d"))
    run(log, "b-1-then", fan_out=last)
    make_all(log, last)
    run(log, "b-2", fan_out=plan("b-2", 0, then=None))
    run(log, "b-3")
    apply(log)
    assert members(store, "b", "task_id, state, follower_id") == [
        ("b-1", "held", "b-1-then-then"),
        ("b-2", "open", None),
        ("b-3", "completed", None),
    ]
    assert barrier(store, "b")["settled"] == 1
    own = barrier(store, "b-1")
    assert (own["parent_id"], own["continuation_id"], own["expected"]) == ("b-1", "b-1-then", 1)

    more = Log(log.next_seq)
    counts = {"opened": 1, "expected": 0, "settled": 0, "succeeded": 0}
    more.barrier("b-2", make(BarrierReleased, **counts))
    more.task("b-1-then-then", make(TaskQueued, spec=SPEC, digest="d"))
    end = run(more, "b-1-then-then", error="no", error_class="error")
    apply(more)
    assert members(store, "b", "task_id, state, error_class") == [
        ("b-1", "failed", "error"),
        ("b-2", "completed", None),
        ("b-3", "completed", None),
    ]
    found = barrier(store, "b")
    assert (found["settled"], found["succeeded"]) == (3, 2)
    assert members(store, "b", "settled_at")[0] == (second(end),)


@pytest.mark.parametrize(("why", "state"), [("policy", "failed"), ("cancelled", "cancelled")])
def test_a_fan_out_without_a_continuation_ends_as_its_barrier(
    store: Store, apply: Apply, why: str, state: str
) -> None:
    log = Log()
    top = plan("b", 1)
    opened(log, "b", top)
    make_all(log, top)
    run(log, "b-1", fan_out=plan("b-1", 1, then=None, policy="all"))
    log.barrier("b-1", make(BarrierAbandoned, why=why, error="no"))
    apply(log)
    assert members(store, "b", "state, error") == [(state, "no")]


def test_members_in_the_object_store_are_those_that_were_made(store: Store, apply: Apply) -> None:
    log = Log()
    before = log.run("there")[2]
    specs = [TaskSpec(handler="h"), TaskSpec(handler="h", key="k")]
    full = plan_fan_out("b", [*specs, "there", "late"])
    stored = FanOutSpec(count=4, members_ref=REF)
    at = opened(log, "b", stored)
    make_all(log, full)
    keyed = full.members[1].task_id
    first, second_end = run(log, "b-1"), run(log, keyed)
    log.task("b-1-r1", make(TaskQueued, spec=full.members[0].spec, digest="d", cause="b-1"))
    apply(log)
    assert members(store, "b", "task_id, position") == [("b-1", 1), (keyed, None)]
    found = barrier(store, "b")
    assert (found["expected"], found["settled"]) == (4, 2)

    more = Log(log.next_seq)
    late = more.run("late")[2]
    counts = {"opened": at, "expected": 4, "settled": 4, "succeeded": 4}
    outcomes = (first, second_end, before, late)
    more.barrier("b", make(BarrierReleased, outcomes=outcomes, **counts))
    apply(more)
    assert members(store, "b", "position, task_id, settled_seq") == [
        (1, "b-1", first),
        (2, keyed, second_end),
        (3, "there", before),
        (4, "late", late),
    ]
    assert barrier(store, "b")["settled"] == 4


def test_what_no_fleet_would_write_changes_nothing(store: Store, apply: Apply) -> None:
    log = Log()
    counts = {"opened": 1, "expected": 1, "settled": 1, "succeeded": 1}
    log.barrier("b", make(BarrierReleased, **counts))
    opened(log, "b", plan("b", 1))
    _, _, end = log.run("t")
    # Of a task that is settled already, and on the subject of another thing.
    log.task("t", make(TaskCompleted, attempts=1, fence=end - 1, fan_out=plan("t", 1)))
    log.barrier("u", make(TaskCompleted, attempts=1, fan_out=plan("u", 1)))
    log.raw("barrier.v.opened", b'{"type":"barrier.opened","id":"e","v":1,"fan_out":7}')
    # A circle.
    round_about = plan_fan_out("x", ["y"])
    opened(log, "x", round_about)
    itself = FanOutSpec(count=0, then=plan("y", 0).then)
    log.task("y", make(TaskQueued, spec=SPEC, digest="d"))
    run(log, "y", fan_out=itself)
    log.task("y-then", make(TaskQueued, spec=SPEC, digest="d"))
    back = FanOutSpec(count=0, then=plan_fan_out("z", ["y"]).members[0])
    run(log, "y-then", fan_out=back)
    apply(log)
    found = rows(store, "SELECT barrier_id, state FROM barriers ORDER BY barrier_id")
    assert [tuple(row.values()) for row in found] == [
        *(("b", "open"), ("x", "open"), ("y", "open"), ("y-then", "open")),
    ]
    assert barrier(store, "x")["settled"] in (0, 1)


def test_rows_are_the_same_however_the_log_is_cut(store: Store, tmp_path: Path) -> None:
    log = Log()
    fan_out = plan("b", 3, then=None)
    opened(log, "b", fan_out)
    make_all(log, fan_out)
    ends = [run(log, f"b-{n}", fan_out=plan(f"b-{n}", 1)) for n in (1, 2, 3)]
    counts = {"opened": 1, "expected": 3, "settled": 3, "succeeded": 3}
    log.barrier("b", make(BarrierReleased, outcomes=tuple(ends), **counts))
    store.apply(log.messages)
    for step in (1, 2, 5):
        other = empty_store(tmp_path / f"cut-{step}.duckdb", store.fleet)
        for start in range(0, len(log.messages), step):
            other.apply(log.messages[start : start + step])
        assert other.digests() == store.digests()
        other.close()
