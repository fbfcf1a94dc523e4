"""The view `limits`: the setting that holds, who stands under it, and how many were let in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from support.projection_rows import rows

from fleetlog.projections.store import Store
from fleetlog.schemas.events import (
    LimitAdmitted,
    LimitSet,
    TaskCompleted,
    TaskHeld,
    TaskQueued,
    TaskRetried,
)
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import T0, Log, claim, make

pytestmark = pytest.mark.parametrize("is_at_once", [True, False])


def second(number: int) -> datetime:
    return T0 + timedelta(seconds=number)


def apply(store: Store, log: Log, *, is_at_once: bool) -> None:
    messages = [each for each in log.messages if each.seq > store.checkpoint.seq]
    if is_at_once:
        store.apply(messages)
    else:
        for message in messages:
            store.apply([message])


def queued(*limits: str) -> TaskQueued:
    return make(TaskQueued, spec=TaskSpec(handler="greet", limits=limits), digest="d")


def held(*limits: str) -> TaskHeld:
    return make(TaskHeld, spec=TaskSpec(handler="greet", limits=limits), digest="d")


def found(store: Store, key: str) -> dict[str, Any]:
    (row,) = rows(store, f"FROM limits WHERE key = '{key}'")
    return row


def test_the_last_setting_decides(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.limit(make(LimitSet, key="api", concurrency=3, rate=10, per_ms=60_000, burst=2))
    log.limit(make(LimitSet, key="my api", rate=5))
    log.limit(make(LimitSet, key="api", concurrency=0, actor="ann", reason="it burns"))
    apply(store, log, is_at_once=is_at_once)
    assert found(store, "api") == {
        "key": "api",
        "concurrency": 0,
        "rate": None,
        "per_ms": None,
        "burst": None,
        "setting_key": "api",
        "set_at": second(3),
        "actor": "ann",
        "reason": "it burns",
        "holders": 0,
        "waiting": 0,
        "admissions": 0,
        "admitted_at": None,
    }
    other = found(store, "my api")
    assert (other["concurrency"], other["rate"], other["per_ms"], other["burst"]) == (
        *(None, 5, 1_000, 5),
    )


def test_a_family_counts_for_its_keys_that_have_no_setting(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.limit(make(LimitSet, key="user:*", concurrency=2, actor="ann"))
    log.limit(make(LimitSet, key="user:bob"))
    for number, key in enumerate(("user:ann:x", "user:bob", "gpu:1", "user:x:*", "user:*")):
        log.task(f"t{number}", held(key))
    apply(store, log, is_at_once=is_at_once)
    settings = {
        row["key"]: (row["setting_key"], row["concurrency"], row["actor"], row["waiting"])
        for row in rows(store, "FROM limits")
    }
    assert settings == {
        "user:*": ("user:*", 2, "ann", 1),
        "user:ann:x": ("user:*", 2, "ann", 1),
        "user:bob": ("user:bob", None, None, 1),
        "gpu:1": (None, None, None, 1),
        "user:x:*": (None, None, None, 1),
    }


def test_a_task_holds_while_it_is_offered_or_runs(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.task("t2", held("api", "gpu"))
    counts = []

    def count() -> None:
        apply(store, log, is_at_once=is_at_once)
        row = found(store, "api")
        counts.append((row["holders"], row["waiting"]))

    log.task("t1", held("api"))
    count()
    log.task("t1", queued("api"))
    count()
    log.task("t1", held("api"))
    count()
    offer = log.task("t1", queued("api"))
    fence = log.task("t1", claim(offer))
    count()
    end = {"attempts": 1, "error_class": "error", "error": "no", "delay_ms": 0}
    log.task("t1", make(TaskRetried, fence=fence, **end))
    count()
    offer = log.task("t1", queued("api"))
    fence = log.task("t1", claim(offer))
    log.task("t1", make(TaskCompleted, attempts=2, fence=fence))
    count()
    assert counts == [(0, 2), (1, 1), (0, 2), (1, 1), (0, 2), (0, 1)]
    assert (found(store, "gpu")["holders"], found(store, "gpu")["waiting"]) == (0, 1)


def test_admissions_are_counted_over_all_batches(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.limit(make(LimitAdmitted, key="api", tasks=("t1", "t2")))
    log.limit(make(LimitSet, key="api", concurrency=2))
    log.limit(make(LimitAdmitted, key="user:ann", tasks=("t4",)))
    log.limit(make(LimitAdmitted, key="api", tasks=("t3",)))
    apply(store, log, is_at_once=is_at_once)
    assert [row["key"] for row in rows(store, "FROM limits")] == ["api"]
    assert (found(store, "api")["admissions"], found(store, "api")["admitted_at"]) == (3, second(4))
    log.limit(make(LimitAdmitted, key="api", tasks=("t5",)))
    log.task("t6", held("user:ann"))
    apply(store, log, is_at_once=is_at_once)
    assert (found(store, "api")["admissions"], found(store, "api")["admitted_at"]) == (4, second(5))
    assert found(store, "user:ann")["admissions"] == 1


def test_what_cannot_be_read_sets_nothing(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.limit(make(LimitSet, key="api", concurrency=2))
    log.raw("limit.api.set", b'{"type":"limit.set","id":"e","v":1,"key":"api"}')
    log.raw("limit.api.set", b"{")
    log.raw(
        "limit.api.admitted",
        b'{"type":"agent.draining","id":"e","v":1,"occurred_at":"2026-01-01T00:00:00Z"}',
    )
    apply(store, log, is_at_once=is_at_once)
    ((row),) = rows(store, "FROM limits")
    assert (row["concurrency"], row["admissions"]) == (2, 0)


def test_tasks_say_what_they_stand_under(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.task("t1", held("api", "user:ann"))
    log.task("t2", make(TaskHeld, spec=TaskSpec(handler="h", fair_key="ann"), digest="d"))
    log.task("t3", make(TaskCompleted, attempts=1, fence=1))
    apply(store, log, is_at_once=is_at_once)
    columns = "limits, budgets, fair_key"
    assert [
        tuple(row.values()) for row in rows(store, f"SELECT {columns} FROM tasks ORDER BY task_id")
    ] == [(["api", "user:ann"], [], None), ([], [], "ann"), (None, None, None)]
