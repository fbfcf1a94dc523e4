"""Tables and views show what a small, known history says."""

from __future__ import annotations

import msgspec
import pytest
from support.projection_rows import rows

from fleetlog.projections.statements import SURFACE, TABLES, VIEWS, documentation
from fleetlog.projections.store import Store
from fleetlog.schemas.events import (
    AgentDraining,
    AgentLost,
    AgentRecovered,
    AgentStopped,
    AgentStrained,
    QueuePaused,
    QueueScaled,
    Strain,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskQueued,
    TaskRetried,
    TaskReturned,
    Usage,
    WorkerExited,
    WorkerRefused,
    WorkerSpawned,
    WorktreeReport,
)
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import Log, claim, instant, make, started

T0_US = 1_767_225_600_000_000


def second(n: int) -> object:
    return instant(T0_US + n * 1_000_000)


def apply_one_by_one(store: Store, log: Log) -> None:
    for message in log.messages:
        store.apply([message])


@pytest.fixture
def busy(store: Store) -> Store:
    """`a` fails once and completes, `b` fails for good, `c` is queued; an event per second from second 1."""
    log = Log()
    spec = TaskSpec(handler="h")
    offer_a = log.task("a", make(TaskQueued, spec=spec, digest="d"))  # 1
    offer_b = log.task("b", make(TaskQueued, spec=spec, digest="d"))  # 2
    fence_a = log.task("a", claim(offer_a))  # 3
    fence_b = log.task("b", claim(offer_b, worker="w2"))  # 4
    end = {"attempts": 1, "error_class": "error", "error": "no"}
    log.task("a", make(TaskRetried, fence=fence_a, delay_ms=0, **end))  # 5
    log.task("b", make(TaskFailed, fence=fence_b, exit_code=3, **end))  # 6
    offer_a2 = log.task("a", make(TaskQueued, spec=spec, digest="d", attempt=2, failures=1))  # 7
    fence_a2 = log.task("a", claim(offer_a2, attempt=2))  # 8
    usage = Usage(input_tokens=10, output_tokens=2, cost_micro_usd=1_250_000, model="m")
    work = {"worktree": WorktreeReport(repository="r", base="b", branch="x/1", commits=2)}
    log.task(
        "a", make(TaskCompleted, attempts=2, fence=fence_a2, ran_ms=900, usage=usage, **work)
    )  # 9
    elsewhere = msgspec.structs.replace(spec, queue="gpu")
    log.task("c", make(TaskQueued, spec=elsewhere, digest="d"), "gpu.high")  # 10
    apply_one_by_one(store, log)
    return store


def test_attempts_say_who_ran_what_and_how_it_ended(busy: Store) -> None:
    found = rows(busy, "FROM attempts ORDER BY fence")
    assert [(r["task_id"], r["attempt"], r["outcome"], r["worker_id"]) for r in found] == [
        ("a", 1, "retried", "w1"),
        ("b", 1, "failed", "w2"),
        ("a", 2, "completed", "w1"),
    ]
    assert all((r["agent_id"], r["host"], r["handler"]) == ("a1", "h1", "h") for r in found)
    assert [(r["queued_at"], r["claimed_at"], r["ended_at"]) for r in found] == [
        (second(1), second(3), second(5)),
        (second(2), second(4), second(6)),
        (second(7), second(8), second(9)),
    ]
    assert found[1]["exit_code"] == 3
    assert (found[2]["ran_ms"], found[2]["input_tokens"], found[2]["model"]) == (900, 10, "m")
    assert str(found[2]["cost_usd"]) == "1.250000"
    work = [(r["branch"], r["commits"], r["files_changed"], r["deletions"]) for r in found]
    assert work == [(None, None, None, None), (None, None, None, None), ("x/1", 2, 0, 0)]


def test_tasks_show_their_first_start_and_their_cost(busy: Store) -> None:
    a, b, c = rows(busy, "FROM tasks ORDER BY task_id")
    assert (a["state"], a["attempts"], a["failures"]) == ("completed", 2, 1)
    assert (a["queued_at"], a["started_at"], a["settled_at"]) == (second(1), second(3), second(9))
    assert (str(a["cost_usd"]), a["input_tokens"]) == ("1.250000", 10)
    assert (b["state"], b["error_class"], b["error"]) == ("failed", "error", "no")
    assert (c["state"], c["queue"], c["priority"], c["started_at"]) == (
        "queued",
        "gpu",
        "high",
        None,
    )


def test_throughput_counts_by_the_logs_minutes(busy: Store) -> None:
    none = dict.fromkeys(("claimed", "settled", "completed", "failed", "cancelled", "expired"), 0)
    some = {**none, "submitted": 2, "claimed": 3, "settled": 2, "completed": 1, "failed": 1}
    assert rows(busy, "FROM throughput_by_minute") == [
        {"minute": second(0), "queue": "default", **some},
        {"minute": second(0), "queue": "gpu", **none, "submitted": 1},
    ]


def test_success_rate_is_of_settled_tasks(busy: Store) -> None:
    ((row),) = rows(busy, "FROM success_rate")
    assert (row["handler"], row["queue"], row["settled"], row["completed"]) == (
        "h",
        "default",
        2,
        1,
    )
    assert row["success_rate"] == 0.5


def test_latency_is_of_attempts(busy: Store) -> None:
    ((row),) = rows(busy, "FROM latency")
    assert (row["queue"], row["attempts"]) == ("default", 3)
    assert (row["wait_p50_s"], row["run_p50_s"]) == (2.0, 2.0)
    assert row["wait_p99_s"] == pytest.approx(2.0)


def test_speedup_is_busy_time_over_wall_time(busy: Store) -> None:
    ((row),) = rows(busy, "FROM speedup")
    assert (row["attempts"], row["workers"], row["hosts"]) == (3, 2, 1)
    assert (row["first_claim_at"], row["last_end_at"]) == (second(3), second(9))
    assert (row["busy_s"], row["wall_s"]) == (5.0, 6.0)
    assert row["speedup"] == pytest.approx(5 / 6)
    assert row["efficiency"] == pytest.approx(5 / 12)


def test_queue_depth_counts_what_has_not_settled(busy: Store) -> None:
    ((row),) = rows(busy, "FROM queue_depth")
    assert (row["queue"], row["priority"], row["queued"], row["claimed"]) == ("gpu", "high", 1, 0)
    assert (row["tasks"], row["oldest_queued_at"]) == (1, second(10))
    assert row["oldest_wait_s"] == 0


def test_cost_is_what_attempts_said(busy: Store) -> None:
    ((row),) = rows(busy, "FROM cost")
    assert (row["handler"], row["model"], row["attempts"]) == ("h", "m", 1)
    assert (row["input_tokens"], str(row["cost_usd"])) == (10, "1.250000")


@pytest.mark.parametrize("is_at_once", [True, False])
def test_views_of_an_empty_log_have_no_numbers(store: Store, is_at_once: bool) -> None:
    ((row),) = rows(store, "FROM speedup")
    assert (row["attempts"], row["busy_s"], row["speedup"]) == (0, None, None)
    for view in (view for view in SURFACE if view != "speedup"):
        assert rows(store, f"FROM {view}") == []


@pytest.mark.parametrize("is_at_once", [True, False])
def test_agents_keep_their_first_start_and_first_end(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.agent("a1", started(labels={"gpu": "yes"}))
    log.agent("a2", started(host="h2"))
    log.agent("a1", make(AgentDraining))
    log.agent("a2", make(AgentLost, silent_ms=3000))
    log.agent("a2", make(AgentStopped))
    log.agent("a2", started(host="h9"))
    log.agent("a3", make(AgentStopped))
    log.agent("a4", started())
    if is_at_once:
        store.apply(log.messages)
    else:
        apply_one_by_one(store, log)
    one, two, three, four = rows(store, "FROM agents ORDER BY agent_id")
    assert (one["state"], one["host"], one["labels"]) == ("draining", "h1", {"gpu": "yes"})
    assert (one["queues"], one["workers"], one["pid"]) == (["default"], 2, 7)
    assert (two["state"], two["host"], two["ended_at"]) == ("lost", "h2", second(4))
    assert (three["state"], three["host"], three["started_at"]) == ("stopped", None, None)
    assert (four["state"], four["draining_at"]) == ("running", None)


@pytest.mark.parametrize("is_at_once", [True, False])
def test_agents_are_strained_as_they_said_last(store: Store, is_at_once: bool) -> None:
    log = Log()
    disk = Strain(resource="disk", left=1, floor=2, where="/data")
    memory = Strain(resource="memory", left=3, floor=4)
    for agent in ("a1", "a2", "a3"):
        log.agent(agent, started())
        log.agent(agent, make(AgentStrained, strains=(disk,)))
    log.agent("a1", make(AgentStrained, strains=(disk, memory)))
    log.agent("a2", make(AgentRecovered))
    log.agent("a3", make(AgentStopped))
    if is_at_once:
        store.apply(log.messages)
    else:
        apply_one_by_one(store, log)
    one, two, three = rows(store, "FROM agents ORDER BY agent_id")
    assert (one["state"], one["strained_at"]) == ("strained", second(7))
    assert one["strains"] == [
        {"resource": "disk", "left": 1, "floor": 2, "where": "/data"},
        {"resource": "memory", "left": 3, "floor": 4, "where": None},
    ]
    assert (two["state"], two["strained_at"], two["strains"]) == ("running", None, None)
    assert (three["state"], three["strained_at"], three["strains"]) == ("stopped", None, None)


@pytest.mark.parametrize("is_at_once", [True, False])
def test_workers_know_how_they_ended(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.agent("a1", started())
    log.agent("a2", started(host="h2"))
    for worker in ("w1", "w2", "w3"):
        log.worker("a1", worker, make(WorkerSpawned, host="h1", pid=10))
    log.worker("a2", "w1", make(WorkerSpawned, host="h2", pid=11))
    log.worker(
        "a1", "w1", make(WorkerExited, host="h1", pid=10, exit_code=3, reason="ended by itself")
    )
    log.worker("a1", "w2", make(WorkerExited, host="h1", pid=10, signal=9))
    lost = {"task_id": "t", "attempt": 1, "fence": 1, "verb": "completed", "digest": "x"}
    log.worker("a1", "w3", make(WorkerRefused, **lost))
    log.worker("a1", "w3", make(WorkerRefused, **lost))
    log.agent("a2", make(AgentLost, silent_ms=1))
    if is_at_once:
        store.apply(log.messages)
    else:
        apply_one_by_one(store, log)
    found = rows(store, "FROM workers ORDER BY agent_id, worker_id")
    assert [(r["state"], r["exit_code"], r["signal"], r["refused"]) for r in found] == [
        ("exited", 3, None, 0),
        ("exited", None, 9, 0),
        ("running", None, None, 2),
        ("lost", None, None, 0),
    ]
    assert [(r["host"], r["pid"]) for r in found] == [("h1", 10)] * 3 + [("h2", 11)]
    assert [r["exit_reason"] for r in found] == ["ended by itself", None, None, None]


def test_queue_scalings_say_how_many_workers_and_why(store: Store) -> None:
    log = Log()
    grown = {"workers_before": 2, "workers_after": 9, "waiting": 7, "oldest_wait_ms": 600}
    log.queue("gpu", make(QueueScaled, agent_id="a", host="h", reason="all were busy", **grown))
    log.queue("gpu", make(QueuePaused))
    fewer = {"workers_before": 9, "workers_after": 8}
    log.queue("gpu", make(QueueScaled, agent_id="a", host="h", reason="idle", **fewer))
    log.raw("queue.gpu.scaled", b'{"type":"queue.scaled","id":"e","v":1,"waiting":"many"}')
    apply_one_by_one(store, log)
    columns = "workers_before, workers_after, waiting, oldest_wait_ms, reason"
    found = rows(store, f"SELECT {columns} FROM queue_scalings ORDER BY seq")
    assert [tuple(row.values()) for row in found[:2]] == [
        (2, 9, 7, 600, "all were busy"),
        (9, 8, 0, 0, "idle"),
    ]
    [who] = rows(
        store, "SELECT DISTINCT queue, agent_id, host FROM queue_scalings WHERE host IS NOT NULL"
    )
    assert tuple(who.values()) == ("gpu", "a", "h")


def test_every_table_and_column_that_people_see_is_described(store: Store) -> None:
    found = rows(
        store,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main'"
        " AND database_name = current_database()",
    )
    seen: dict[str, set[str]] = {}
    for row in found:
        seen.setdefault(row["table_name"], {"about"}).add(row["column_name"])
    assert {name: set(texts) for name, texts in documentation().items()} == seen
    assert set(VIEWS) | {"events", "queues", "derived_queues", "heartbeats"} == set(seen)
    assert set(SURFACE) == set(seen) - {"heartbeats"}
    assert set(TABLES) - set(seen) == {
        *("meta", "open_tasks", "settled_tasks", "ended_attempts"),
        *("known_agents", "known_workers", "allowances"),
        *("known_barriers", "named_members", "member_outcomes"),
        *("known_limits", "known_budgets"),
    }


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_question_stands_in_its_row_until_it_is_answered(store: Store, is_at_once: bool) -> None:
    log = Log()
    spec = TaskSpec(handler="h")
    asked = {"error_class": "needs_input", "error": "which?", "attempts": 1}
    question = Question(text="which?", choices=("a", "b"))
    for task_id in ("answered", "open", "called-off", "drained"):
        offer = log.task(task_id, make(TaskQueued, spec=spec, digest="d"))
        fence = log.task(task_id, claim(offer))
        why = {**asked, "error_class": "drained"} if task_id == "drained" else asked
        log.task(task_id, make(TaskReturned, fence=fence, question=question, delay_ms=9, **why))
    log.task("answered", make(TaskQueued, spec=spec, digest="d", attempt=2))
    log.task("called-off", make(TaskCancelled, attempts=1))
    if is_at_once:
        store.apply(log.messages)
    else:
        apply_one_by_one(store, log)
    found = rows(store, "FROM tasks ORDER BY task_id")
    shown = {r["task_id"]: (r["state"], r["question"], r["choices"]) for r in found}
    assert shown == {
        "answered": ("queued", None, None),
        "called-off": ("cancelled", None, None),
        "drained": ("waiting", None, None),
        "open": ("waiting", "which?", ["a", "b"]),
    }
    times = {r["task_id"]: (r["asked_at"], r["due_at"] is None) for r in found}
    assert times["open"] == (second(6), True)
    assert times["drained"] == (None, False)
