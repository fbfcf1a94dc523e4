"""Every message has its row, whatever it holds; what cannot be read says why and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.projection_rows import rows

from fleetlog.projections.batches import Batch, pack
from fleetlog.projections.store import Store
from fleetlog.schemas.envelope import Stored
from fleetlog.schemas.events import (
    QueuePaused,
    QueueResumed,
    ScheduleSet,
    TaskCompleted,
    TaskHeld,
    TaskQueued,
    TaskReturned,
    WorkerRefused,
)
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import FLEET, T0, Log, claim, instant, make

QUEUED = (
    b'{"type":"task.queued","id":"e","occurred_at":"2026-01-01T00:00:00Z","v":1,'
    b'"spec":{"handler":"h"},"digest":"d"}'
)
SUBJECT = "task.t1.default.normal.queued"


def one(store: Store, subject: str, data: bytes) -> dict[str, Any]:
    log = Log()
    log.raw(subject, data)
    log.run("after")
    store.apply(log.messages)
    assert rows(store, "SELECT state FROM tasks WHERE task_id = 'after'") == [
        {"state": "completed"}
    ]
    return rows(store, "FROM events WHERE seq = 1")[0]


@pytest.mark.parametrize(
    ("data", "why", "type_"),
    [
        (b"{", "not JSON", None),
        (b"", "not JSON", None),
        (b"\x00", "not JSON", None),
        (b"[1]", "not an event", None),
        (b'{"type":7}', "not an event", None),
        (b"\xff\xfe\x00", "not JSON", None),
        (b'{"type":"task.paused","id":"e","v":1}', "task.paused", "task.paused"),
        (QUEUED.replace(b'"v":1', b'"v":2'), "schema version 2", "task.queued"),
        (QUEUED.replace(b'"h"', b"7"), "Expected `str`", "task.queued"),
        (QUEUED.replace(b'"d"', b'"d","attempt":"1"'), "Expected `int`", "task.queued"),
        (QUEUED.replace(b"Z", b""), "timezone", "task.queued"),
        (b'{"type":"task.queued"}', "missing required field", "task.queued"),
        (b"[" * 100_000, "recursion depth", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_cannot_be_read_is_kept(
    store: Store, data: bytes, why: str, type_: str | None
) -> None:
    row = one(store, SUBJECT, data)
    assert why in row["problem"]
    assert row["type"] == type_
    assert not row["is_violation"]
    assert (row["task_id"], row["queue"], row["priority"]) == ("t1", "default", "normal")
    kept = row["raw"].encode() if row["raw_bytes"] is None else row["raw_bytes"]
    assert kept == data
    assert rows(store, "FROM tasks WHERE task_id = 't1'") == []


@pytest.mark.parametrize(
    "subject",
    [
        "task.t1.default.urgent.queued",
        "task.t1.queued",
        "task.t1.default.normal.paused",
        "x.y.queued",
        "agent.a1.b.started",
    ],
)
def test_a_subject_outside_the_grammar_is_kept(store: Store, subject: str) -> None:
    row = one(store, subject, QUEUED)
    assert row["problem"] == "the subject is not one of the log"
    assert row["subject"] == f"fleetlog.{FLEET}.{subject}"
    assert row["task_id"] is None
    assert rows(store, "FROM tasks WHERE task_id = 't1'") == []


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (b'"\xff"', '"\ufffd"'),
        (b'"\\ud83d\\ude00"', '"\U0001f600"'),
        (b'"\\u0000"', '"\\u0000"'),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b'{"a":1,"a":2}', '{"a":1,"a":2}'),
    ],
)
def test_a_result_that_json_allows_only_just_settles_its_task(
    store: Store, result: bytes, shown: str
) -> None:
    log = Log()
    log.run("t1", result=msgspec.Raw(result))
    store.apply(log.messages)
    ((row),) = rows(store, "SELECT state, result FROM tasks")
    assert row == {"state": "completed", "result": shown}
    last = rows(store, "SELECT raw, raw_bytes FROM events WHERE seq = 3")[0]
    assert log.messages[2].data in (last["raw"].encode(), last["raw_bytes"])


def test_one_bad_event_among_many_is_alone(store: Store) -> None:
    log = Log()
    for number in range(50):
        log.run(f"t{number}")
        log.raw(
            f"task.t{number}.default.normal.queued", QUEUED.replace(b'"d"', b'"d","failures":9e99')
        )
        log.raw(
            SUBJECT.replace("t1", f"x{number}"),
            QUEUED.replace(b'"h"', b'"h","labels":{"a":"1","a":"2"}'),
        )
    store.apply(log.messages)
    assert rows(store, "SELECT count(*) AS n FROM tasks WHERE state = 'completed'") == [{"n": 50}]
    assert store.checkpoint.seq == 250


def test_columns_come_from_subject_and_payload(store: Store) -> None:
    log = Log()
    offer = log.task(
        "t1",
        make(
            TaskQueued, spec=TaskSpec(handler="h"), digest="d", cause="c", actor="me", reason="so"
        ),
        "gpu.high",
    )
    fence = log.task("t1", claim(offer, agent="a7", worker="w7"), "gpu.high")
    log.task("t1", make(TaskCompleted, attempts=1, fence=fence), "gpu.high")
    log.worker(
        "a7",
        "w7",
        make(WorkerRefused, task_id="t1", attempt=1, fence=2, verb="completed", digest="x"),
    )
    store.apply(log.messages)
    queued, claimed, completed, refused = rows(store, "FROM events ORDER BY seq")
    shared = {
        "task_id": "t1",
        "queue": "gpu",
        "priority": "high",
        "problem": None,
        "is_violation": False,
    }
    for row in (queued, claimed, completed):
        assert shared.items() <= row.items()
    assert {
        "cause": "c",
        "actor": "me",
        "reason": "so",
        "type": "task.queued",
    }.items() <= queued.items()
    assert queued["occurred_at"] == T0
    assert queued["stored_at"] == instant(1_767_225_601_000_000)
    assert {
        "agent_id": "a7",
        "worker_id": "w7",
        "host": "h1",
        "fence": 2,
        "attempt": 1,
    }.items() <= claimed.items()
    assert {"fence": 2, "attempt": 1}.items() <= completed.items()
    assert {
        "task_id": "t1",
        "agent_id": "a7",
        "worker_id": "w7",
        "fence": 2,
    }.items() <= refused.items()
    assert json.loads(queued["raw"])["type"] == "task.queued"


def test_what_the_task_does_not_allow_is_a_violation(store: Store) -> None:
    log = Log()
    _, fence, _ = log.run("t1")
    late = log.task("t1", make(TaskCompleted, attempts=1, fence=fence, result=msgspec.Raw(b"2")))
    store.apply(log.messages)
    assert rows(store, "SELECT seq FROM events WHERE is_violation") == [{"seq": late}]
    assert rows(store, "SELECT result FROM tasks") == [{"result": "null"}]


def test_an_outcome_alone_settles_its_task(store: Store) -> None:
    log = Log()
    log.raw(SUBJECT, b"{")
    log.task("t1", make(TaskCompleted, attempts=4, fence=9, digest="d"), "gpu.high")
    late = log.task("t1", make(TaskCompleted, attempts=4, fence=9))
    store.apply(log.messages[:1])
    store.apply(log.messages[1:])
    found = rows(store, "SELECT state, attempts, queue, priority, digest, handler FROM tasks")
    known = {"state": "completed", "attempts": 4, "queue": "gpu", "priority": "high", "digest": "d"}
    assert found == [{**known, "handler": None}]
    assert rows(store, "SELECT seq FROM events WHERE is_violation") == [{"seq": late}]
    assert rows(store, "FROM attempts") == []


def test_an_old_event_is_read_as_its_present_form(store: Store) -> None:
    def rename(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "spec": {"handler": fields["name"]}}

    old = QUEUED.replace(b'"v":1', b'"v":0').replace(b'"spec":{"handler":"h"}', b'"name":"ancient"')
    store._transact(
        Batch(
            [
                pack(
                    [Stored(1, 0, f"fleetlog.{FLEET}.{SUBJECT}", old)],
                    upcasts={("task.queued", 0): rename},
                )
            ]
        )
    )
    assert rows(store, "SELECT handler, state FROM tasks") == [
        {"handler": "ancient", "state": "queued"}
    ]
    assert rows(store, "SELECT raw_bytes FROM events") == [{"raw_bytes": old}]


def test_a_task_without_a_limit_of_time_shows_none(store: Store) -> None:
    """Compared seeds of the simulator showed the default instead."""
    log = Log()
    for task_id, limit in (("t1", {}), ("t2", {"timeout_ms": None}), ("t3", {"timeout_ms": 5})):
        log.task(task_id, make(TaskQueued, spec=TaskSpec(handler="greet", **limit), digest="d"))
    store.apply(log.messages)
    found = rows(store, "SELECT timeout_ms FROM tasks ORDER BY task_id")
    assert [row["timeout_ms"] for row in found] == [3_600_000, None, 5]


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_task_that_is_held_again_by_an_answer_is_due(store: Store, is_at_once: bool) -> None:
    """Compared seeds of the simulator showed none where question and answer came in one batch."""
    log, spec = Log(), TaskSpec(handler="greet", limits=("api",))
    log.task("t1", make(TaskHeld, spec=spec, digest="d"))
    offer = log.task("t1", make(TaskQueued, spec=spec, digest="d"))
    fence = log.task("t1", claim(offer))
    asks = make(TaskReturned, attempts=1, fence=fence, error_class="needs_input", error="which?")
    log.task("t1", asks)
    log.task("t1", make(TaskHeld, spec=spec, digest="d"))
    for batch in [log.messages] if is_at_once else [[each] for each in log.messages]:
        store.apply(batch)
    [row] = rows(store, "SELECT state, due_at, question FROM tasks")
    assert row == {
        "state": "held",
        "due_at": instant(log.messages[-1].stored_at_ns // 1000),
        "question": None,
    }


def test_the_last_event_counts_though_the_servers_clock_went_back(store: Store) -> None:
    """Compared seeds of the simulator showed the latest instant instead, of a schedule that was set again."""
    log = Log()
    who = {"actor": "ann", "reason": "why"}
    for second in (9, 3):
        log.second = second
        log.schedule("s", make(ScheduleSet, spec=TaskSpec(handler="h"), digest="d", every_ms=1000))
        log.queue("q", make(QueuePaused, **who))
        log.queue("q", make(QueueResumed, **who))
    store.apply(log.messages)
    last = log.messages[-1].stored_at
    assert [row["set_at"] for row in rows(store, "FROM schedules")] == [last]
    [queue] = rows(store, "FROM queues")
    assert (queue["paused_at"], queue["resumed_at"]) == (last, last)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_an_attempt_is_what_its_offer_says_though_the_task_was_replaced(
    store: Store, cut: int
) -> None:
    """Seed 840 of the simulator, 60 steps: in one batch with its claim, it showed the queue it had before."""
    log = Log()
    log.task("k1", make(TaskQueued, spec=TaskSpec(handler="old"), digest="d"), lane="other.low")
    offer = log.task("k1", make(TaskQueued, spec=TaskSpec(handler="new"), digest="d"))
    fence = log.task("k1", claim(offer))
    log.task("k1", make(TaskCompleted, attempts=1, fence=fence))
    for batch in filter(None, (log.messages[:cut], log.messages[cut:])):
        store.apply(batch)
    [row] = rows(store, "SELECT handler, queue, priority FROM attempts")
    assert row == {"handler": "new", "queue": "default", "priority": "normal"}
