"""The table `credentials`: the last event decides, and of each allowance what was said last."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from support.projection_rows import rows

from fleetlog.projections.store import Store
from fleetlog.schemas.events import (
    AllowanceUse,
    CredentialPaused,
    CredentialResumed,
    TaskQueued,
    TaskReturned,
)
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import T0, Log, claim, make

HOUR = T0 + timedelta(hours=1)


def second(number: int) -> datetime:
    return T0 + timedelta(seconds=number)


def use(window: str, share: float, credential: str = "claude") -> AllowanceUse:
    return AllowanceUse(credential=credential, window=window, utilization=share, resets_at=HOUR)


def apply(store: Store, log: Log, *, is_at_once: bool) -> None:
    if is_at_once:
        store.apply(log.messages)
    else:
        for message in log.messages:
            store.apply([message])


@pytest.mark.parametrize("is_at_once", [True, False])
def test_the_last_event_decides(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.credential(
        "claude",
        make(CredentialPaused, error_class="usage_limit", error="limit", until=HOUR, host="h1"),
    )
    log.credential("codex", make(CredentialPaused, error_class="paused", error="by hand"))
    log.credential("codex", make(CredentialResumed, actor="ann", reason="back"))
    apply(store, log, is_at_once=is_at_once)
    claude, codex = rows(store, "FROM credentials ORDER BY credential")
    assert (claude["state"], claude["error_class"], claude["host"]) == (
        *("paused", "usage_limit", "h1"),
    )
    assert (claude["paused_at"], claude["paused_until"]) == (second(1), HOUR)
    assert (codex["state"], codex["paused_until"], codex["resumed_at"]) == (
        *("active", None, second(3)),
    )
    assert (codex["actor"], codex["reason"], codex["pauses"]) == ("ann", "back", 1)


@pytest.mark.parametrize("is_at_once", [True, False])
def test_of_each_allowance_the_last_report_counts(store: Store, is_at_once: bool) -> None:
    log = Log()
    for task_id, uses in (
        ("t1", (use("five_hour", 0.9), use("seven_day", 0.2))),
        ("t2", (use("five_hour", 0.1), use("five_hour", 0.15), use("day", 0.5, "codex"))),
    ):
        offer = log.task(task_id, make(TaskQueued, spec=TaskSpec(handler="greet"), digest="d"))
        fence = log.task(task_id, claim(offer))
        log.task(
            task_id,
            make(
                TaskReturned,
                attempts=1,
                fence=fence,
                error_class="usage_limit",
                error="limit",
                allowances=uses,
            ),
        )
    apply(store, log, is_at_once=is_at_once)
    claude, codex = rows(
        store,
        "SELECT * REPLACE (to_json(allowances)::VARCHAR AS allowances) FROM credentials ORDER BY 1",
    )
    assert claude["state"] == "active"
    assert claude["utilization"] == 0.2
    assert [(each["window"], each["utilization"]) for each in json.loads(claude["allowances"])] == [
        *(("five_hour", 0.15), ("seven_day", 0.2)),
    ]
    assert [each["window"] for each in json.loads(codex["allowances"])] == ["day"]
