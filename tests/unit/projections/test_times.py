"""What happened by the minute, in a history that can be followed on paper, and the saved queries over it."""

from __future__ import annotations

from typing import Any

import pytest
from support.projection_rows import rows

from fleetlog.projections.saved import saved_queries, saved_query
from fleetlog.projections.store import Store
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import (
    AgentStopped,
    TaskCompleted,
    TaskFailed,
    TaskQueued,
    WorkerExited,
    WorkerSpawned,
)
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import T0_NS, Log, claim, instant, make, started

HOUR_S = 3600


def at(second: int) -> object:
    return instant(T0_NS // 1000 + second * 1_000_000)


@pytest.fixture
def shift(store: Store) -> Store:
    """Agent a1 on h1 with w1 and w2, a2 on h2 with w1; four tasks within three minutes, one long before."""
    spec = TaskSpec(handler="h")
    queued = make(TaskQueued, spec=spec, digest="d")
    log = Log()

    def clock(second: int) -> Log:
        log.second = second
        return log

    old_offer = clock(1).task("old", queued)
    old_fence = clock(2).task("old", claim(old_offer, agent="a0"))
    clock(3).task("old", make(TaskCompleted, attempts=1, fence=old_fence))
    clock(2 * HOUR_S).agent("a1", started())
    clock(2 * HOUR_S).agent("a2", started(host="h2"))
    clock(2 * HOUR_S).worker("a1", "w1", make(WorkerSpawned, host="h1", pid=1))
    clock(2 * HOUR_S).worker("a1", "w2", make(WorkerSpawned, host="h1", pid=2))
    a = clock(2 * HOUR_S + 10).task("a", queued)
    clock(2 * HOUR_S + 20).task("b", queued)
    c = clock(2 * HOUR_S + 20).task("c", queued)
    clock(2 * HOUR_S + 30).worker("a2", "w1", make(WorkerSpawned, host="h2", pid=3))
    fence_a = clock(2 * HOUR_S + 40).task("a", claim(a))
    fence_c = clock(2 * HOUR_S + 70).task("c", claim(c, agent="a2", host="h2"))
    clock(2 * HOUR_S + 100).task("a", make(TaskCompleted, attempts=1, fence=fence_a))
    error = {"error_class": "error", "error": "no"}
    clock(2 * HOUR_S + 110).worker("a1", "w2", make(WorkerExited, host="h1", pid=2, exit_code=0))
    clock(2 * HOUR_S + 130).task("c", make(TaskFailed, attempts=1, fence=fence_c, **error))
    clock(2 * HOUR_S + 140).agent("a2", make(AgentStopped))
    d = clock(2 * HOUR_S + 140).task("d", queued)
    clock(2 * HOUR_S + 150).task("d", claim(d))
    store.apply(log.messages)
    return store


def history(store: Store) -> list[dict[str, Any]]:
    return rows(store, f"FROM queue_history WHERE minute >= TIMESTAMPTZ '{at(2 * HOUR_S)}'")


def test_queue_history_is_what_held_at_the_end_of_each_minute(shift: Store) -> None:
    assert [tuple(row.values()) for row in history(shift)] == [
        (at(2 * HOUR_S), "default", 2, 40.0, 1, 3),
        (at(2 * HOUR_S + 60), "default", 1, 100.0, 1, 2),
        (at(2 * HOUR_S + 120), "default", 1, 130.0, 1, 1),
    ]


def test_queue_history_has_every_minute_since_the_first_offer(shift: Store) -> None:
    found = rows(shift, "FROM queue_history")
    assert [row["minute"] for row in found] == [at(60 * n) for n in range(123)]
    assert all(row["depth"] == 0 and row["oldest_wait_s"] is None for row in found[:120])


def test_utilization_is_busy_time_over_available_time(shift: Store) -> None:
    assert [tuple(row.values()) for row in rows(shift, "FROM utilization")] == [
        (at(2 * HOUR_S), "h1", "a1", 20.0, 120.0, pytest.approx(1 / 6)),
        (at(2 * HOUR_S), "h2", "a2", 0.0, 30.0, 0.0),
        (at(2 * HOUR_S + 60), "h1", "a1", 40.0, 110.0, pytest.approx(4 / 11)),
        (at(2 * HOUR_S + 60), "h2", "a2", 50.0, 60.0, pytest.approx(5 / 6)),
        (at(2 * HOUR_S + 120), "h1", "a1", 0.0, 30.0, 0.0),
        (at(2 * HOUR_S + 120), "h2", "a2", 10.0, 20.0, 0.5),
    ]


def run(store: Store, name: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows(store, saved_query(name).sql)]


def test_saved_workers_by_host(shift: Store) -> None:
    assert run(shift, "workers-by-host") == [("h1", 1, 1, 1)]


def test_saved_active_tasks_by_host(shift: Store) -> None:
    assert run(shift, "active-tasks-by-host") == [("h1", "default", "h", 1, at(2 * HOUR_S + 150))]


def test_saved_outcomes_of_the_last_hour_leave_out_what_is_older(shift: Store) -> None:
    assert run(shift, "outcomes-of-the-last-hour") == [
        ("h1", "completed", 1, 60.0),
        ("h2", "failed", 1, 60.0),
    ]


def test_saved_idle_while_work_waited(shift: Store) -> None:
    assert run(shift, "idle-while-work-waited") == [
        (at(2 * HOUR_S), "default", 2, 40.0, 2, 3),
        (at(2 * HOUR_S + 60), "default", 1, 100.0, 1, 2),
    ]


def test_every_saved_query_runs_on_an_empty_log_and_says_what_it_answers(store: Store) -> None:
    for query in saved_queries():
        assert rows(store, query.sql) == []
        assert query.title.endswith(".")
    assert [query.name for query in saved_queries()] == [
        *("active-tasks-by-host", "idle-while-work-waited", "outcomes-of-the-last-hour"),
        "workers-by-host",
    ]


def test_an_unknown_saved_query_is_refused_with_a_near_name() -> None:
    with pytest.raises(InvalidInput, match="did you mean workers-by-host"):
        saved_query("worker-by-host")
    with pytest.raises(InvalidInput, match="there are active-tasks-by-host, idle"):
        saved_query("x")
