"""The view `budgets`: what ends of attempts used, from a budget's first word or its last reset on."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from support.projection_rows import rows

from fleetlog.projections.store import Store
from fleetlog.schemas.budgets import Budget, Spent
from fleetlog.schemas.events import (
    BudgetExhausted,
    BudgetSet,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskQueued,
    TaskReturned,
    Usage,
)
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import T0, Log, claim, make

pytestmark = pytest.mark.parametrize("is_at_once", [True, False])

KEYED = "k0123456789abcdef0123456789abcdef"
"""The id of a task with a key: it looks like a hashed key of a budget and is hashed again."""


def second(number: int) -> datetime:
    return T0 + timedelta(seconds=number)


def apply(store: Store, log: Log, *, is_at_once: bool) -> None:
    messages = [each for each in log.messages if each.seq > store.checkpoint.seq]
    if is_at_once:
        store.apply(messages)
    else:
        for message in messages:
            store.apply([message])


def under(*budgets: str, budget: Budget | None = None) -> TaskQueued:
    spec = TaskSpec(handler="greet", budgets=budgets, budget=budget)
    return make(TaskQueued, spec=spec, digest="d")


def begin(log: Log, task_id: str, *budgets: str, budget: Budget | None = None) -> int:
    return log.task(task_id, claim(log.task(task_id, under(*budgets, budget=budget))))


def complete(log: Log, task_id: str, fence: int, tokens: int = 0, **fields: Any) -> int:
    usage = Usage(input_tokens=tokens, output_tokens=1, cost_micro_usd=10 * tokens)
    return log.task(task_id, make(TaskCompleted, attempts=1, fence=fence, usage=usage, **fields))


def spend(log: Log, task_id: str, tokens: int, *budgets: str, budget: Budget | None = None) -> None:
    complete(log, task_id, begin(log, task_id, *budgets, budget=budget), tokens - 1, ran_ms=7)


def found(store: Store, key: str) -> dict[str, Any]:
    (row,) = rows(store, f"FROM budgets WHERE key = '{key}'")
    return row


def spent(store: Store, key: str) -> tuple[Any, ...]:
    row = found(store, key)
    return row["spent_tokens"], row["spent_cost_usd"], row["spent_wall_ms"]


def test_a_budget_says_how_it_is_set_and_what_was_used(store: Store, is_at_once: bool) -> None:
    log = Log()
    budget = Budget(tokens=100, cost_micro_usd=2_500_000, wall_ms=60_000, action="warn")
    log.budget(make(BudgetSet, key="team/x", budget=budget, actor="ann", reason="no money"))
    fence = begin(log, "t1", "other", "team/x")
    complete(log, "t1", fence, 4, ran_ms=70)
    begin(log, "t2", "team/x")
    apply(store, log, is_at_once=is_at_once)
    assert rows(store, "FROM budgets") == [
        {
            "key": "team/x",
            "task_id": None,
            "action": "warn",
            "tokens": 100,
            "cost_usd": Decimal("2.5"),
            "wall_ms": 60_000,
            "spent_tokens": 5,
            "spent_cost_usd": Decimal("0.00004"),
            "spent_wall_ms": 70,
            "state": "open",
            "exhausted_resource": None,
            "exhausted_at": None,
            "set_at": second(1),
            "actor": "ann",
            "reason": "no money",
            "open_tasks": 1,
        }
    ]


def test_every_end_of_an_attempt_counts_and_nothing_else(store: Store, is_at_once: bool) -> None:
    log = Log()
    log.budget(make(BudgetSet, key="b", budget=Budget(tokens=100)))
    fence = begin(log, "t1", "b")
    end = {"attempts": 1, "error_class": "drained", "error": "gone"}
    log.task("t1", make(TaskReturned, fence=fence, usage=Usage(input_tokens=2), ran_ms=5, **end))
    fence = begin(log, "t1", "b")
    log.task("t1", make(TaskFailed, fence=fence, usage=Usage(output_tokens=3), ran_ms=6, **end))
    # A stale end, one of a task that never ran, and one under no budget.
    log.task("t1", make(TaskCompleted, attempts=2, fence=fence, usage=Usage(input_tokens=50)))
    log.task("t2", under("b"))
    log.task("t2", make(TaskCancelled, attempts=0, usage=Usage(input_tokens=50), ran_ms=50))
    spend(log, "t3", 50)
    apply(store, log, is_at_once=is_at_once)
    assert spent(store, "b") == (5, 0, 11)
    assert found(store, "b")["open_tasks"] == 0


def test_who_does_not_say_how_long_it_ran_is_charged_by_the_log(
    store: Store, is_at_once: bool
) -> None:
    log = Log()
    log.budget(make(BudgetSet, key="b", budget=Budget(wall_ms=100)))
    fence = begin(log, "t1", "b")
    log.second = fence + 90
    complete(log, "t1", fence)
    log.second = 200
    fence = begin(log, "t2", "b")
    # The server's clock was set back.
    log.second = 150
    complete(log, "t2", fence)
    apply(store, log, is_at_once=is_at_once)
    assert spent(store, "b")[2] == 90_000
    assert found(store, "b")["exhausted_resource"] == "wall"


def test_a_claim_over_a_dead_holder_uses_nothing_and_the_new_one_counts_from_its_own(
    store: Store, is_at_once: bool
) -> None:
    log = Log()
    log.budget(make(BudgetSet, key="b", budget=Budget(wall_ms=10**6)))
    offer = log.task("t1", under("b"))
    fence = log.task("t1", claim(offer))
    log.second = 60
    over = log.task("t1", claim(offer, attempt=2, agent="a2", over=fence))
    log.second = 63
    complete(log, "t1", over, 4)
    apply(store, log, is_at_once=is_at_once)
    assert spent(store, "b") == (5, Decimal("0.00004"), 3_000)


def test_what_was_used_before_the_first_word_or_the_last_reset_does_not_count(
    store: Store, is_at_once: bool
) -> None:
    log = Log()
    spend(log, "t1", 40, "b")
    fence = begin(log, "t2", "b")
    log.budget(make(BudgetSet, key="b", budget=Budget(tokens=100)))
    complete(log, "t2", fence, 1)
    spend(log, "t3", 5, "b")
    apply(store, log, is_at_once=is_at_once)
    assert spent(store, "b")[0] == 7
    spend(log, "t4", 5, "b")
    log.budget(make(BudgetSet, key="b", budget=Budget(tokens=90), is_reset=True))
    spend(log, "t5", 11, "b")
    log.budget(make(BudgetSet, key="b", budget=Budget(cost_micro_usd=80)))
    apply(store, log, is_at_once=is_at_once)
    row = found(store, "b")
    assert (row["spent_tokens"], row["tokens"], row["exhausted_resource"]) == (11, None, "cost")
    assert row["set_at"] == second(log.next_seq - 1)


@pytest.mark.parametrize("root", ["t1", KEYED])
def test_a_tree_has_the_budget_of_its_root(store: Store, is_at_once: bool, root: str) -> None:
    log = Log()
    spec = TaskSpec(handler="h", budget=Budget(tokens=10))
    log.task(root, make(TaskHeld, spec=spec, digest="d", actor="ann"))
    spend(log, root, 4, budget=spec.budget)
    spend(log, "t2", 5, root)
    apply(store, log, is_at_once=is_at_once)
    row = found(store, root)
    assert (row["task_id"], row["tokens"], row["action"]) == (root, 10, "hold")
    assert (row["spent_tokens"], row["state"], row["open_tasks"]) == (9, "open", 0)
    assert (row["set_at"], row["actor"]) == (second(1), "ann")
    assert rows(store, f"SELECT budgets FROM tasks WHERE task_id = '{root}'") == [
        {"budgets": [root]}
    ]
    log.budget(make(BudgetSet, key=root, budget=Budget(tokens=9, action="stop"), actor="bob"))
    log.task("t3", under(root))
    apply(store, log, is_at_once=is_at_once)
    row = found(store, root)
    assert (row["task_id"], row["action"], row["actor"]) == (root, "stop", "bob")
    assert (row["spent_tokens"], row["state"], row["open_tasks"]) == (9, "exhausted", 1)


def test_who_sets_a_trees_budget_before_the_tree_is_there_decides(
    store: Store, is_at_once: bool
) -> None:
    log = Log()
    log.budget(make(BudgetSet, key="t1", budget=Budget(tokens=3)))
    spend(log, "t1", 5, budget=Budget(tokens=10))
    apply(store, log, is_at_once=is_at_once)
    row = found(store, "t1")
    assert (row["task_id"], row["tokens"], row["spent_tokens"]) == ("t1", 3, 5)
    assert row["set_at"] == second(1)


def test_exhausted_is_what_is_used_up_and_the_log_says_since_when(
    store: Store, is_at_once: bool
) -> None:
    log = Log()
    budget = Budget(tokens=5, cost_micro_usd=40, wall_ms=7)
    log.budget(make(BudgetSet, key="b", budget=budget))
    spend(log, "t1", 5, "b")
    told: dict[str, Any] = {"key": "b", "resource": "cost", "action": "hold", "spent": Spent()}
    first = log.budget(make(BudgetExhausted, **told))
    log.budget(make(BudgetExhausted, **told))
    apply(store, log, is_at_once=is_at_once)
    row = found(store, "b")
    assert (row["state"], row["exhausted_resource"]) == ("exhausted", "cost")
    assert row["exhausted_at"] == second(first)
    log.budget(make(BudgetSet, key="b", budget=Budget(tokens=5, cost_micro_usd=41)))
    apply(store, log, is_at_once=is_at_once)
    row = found(store, "b")
    assert (row["exhausted_resource"], row["exhausted_at"]) == ("tokens", None)
    again = log.budget(make(BudgetExhausted, **told))
    apply(store, log, is_at_once=is_at_once)
    assert found(store, "b")["exhausted_at"] == second(again)
    log.budget(make(BudgetSet, key="b", budget=Budget(tokens=6)))
    apply(store, log, is_at_once=is_at_once)
    row = found(store, "b")
    assert (row["state"], row["exhausted_resource"], row["exhausted_at"]) == ("open", None, None)


def test_what_cannot_be_read_sets_nothing_but_begins_a_budget(
    store: Store, is_at_once: bool
) -> None:
    log = Log()
    log.raw("budget.b.set", b"{")
    spend(log, "t1", 4, "b")
    apply(store, log, is_at_once=is_at_once)
    assert rows(store, "FROM budgets") == []
    log.budget(make(BudgetSet, key="b", budget=Budget(tokens=5)))
    log.raw("budget.b.set", b'{"type":"budget.set","id":"e","v":1,"key":"b"}')
    apply(store, log, is_at_once=is_at_once)
    assert (found(store, "b")["tokens"], found(store, "b")["spent_tokens"]) == (5, 4)
