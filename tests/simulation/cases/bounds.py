"""Logs about limits, budgets and credentials."""

from __future__ import annotations

from simulation.cases.case import Case, bad
from simulation.invariants import Tolerance
from simulation.writing import Log

LIMITED = {"limits": ["a"]}
BOTH = {"limits": ["a", "b"]}
ANN = {"limits": ["user:ann"]}
FAMILY = "limit.k0a3d6a4b31886c9dac320769cf8e733a"
OF_ANN = "limit.kb7b15a392649eaf59c97b8faa3407082"
PAID = {"budgets": ["x"]}
USD = 1_000_000
USED = {"cost_micro_usd": USD}


# Limits.


def let_in(log: Log, *tasks: str) -> None:
    for task in tasks:
        log.held(task, LIMITED)
    for task in tasks:
        log.queued(task)
    log.admitted("a", *tasks)


def end(log: Log, task: str) -> None:
    log.claimed(task)
    log.ended("completed", task)


def within_places(log: Log) -> None:
    log.limit("a", concurrency=2)
    let_in(log, "t", "u")
    end(log, "t")
    let_in(log, "v")
    log.claimed("u")
    log.retried("u")
    log.held("v")
    let_in(log, "w", "x")
    # What is let in stays, whatever is set afterwards.
    log.limit("a", concurrency=0)
    end(log, "w")
    log.limit("a")
    let_in(log, "y", "z")


def above_places(log: Log) -> None:
    log.limit("a", concurrency=2)
    let_in(log, "t", "u")
    let_in(log, "v")


def above_places_at_once(log: Log) -> None:
    log.limit("a", concurrency=1)
    let_in(log, "t", "u")


def above_lowered_places(log: Log) -> None:
    let_in(log, "t", "u")
    log.limit("a", concurrency=2)
    end(log, "t")
    log.limit("a", concurrency=1)
    let_in(log, "v")


def set_family(log: Log, concurrency: int) -> None:
    log.add(FAMILY, "set", key="user:*", concurrency=concurrency)


def let_ann_in(log: Log, *tasks: str) -> None:
    for task in tasks:
        log.held(task, ANN)
        log.queued(task)
        log.add(OF_ANN, "admitted", key="user:ann", tasks=[task])


def within_a_family(log: Log) -> None:
    set_family(log, 1)
    log.wait(60_000)
    let_ann_in(log, "t")
    log.add(OF_ANN, "set", key="user:ann", concurrency=2)
    let_ann_in(log, "u")
    end(log, "u")
    end(log, "t")


def decided_before_the_family_was_set(log: Log) -> None:
    let_ann_in(log, "t")
    set_family(log, 1)
    log.wait(10)
    let_ann_in(log, "u")


def above_a_family(log: Log) -> None:
    set_family(log, 1)
    log.wait(60_000)
    let_ann_in(log, "t", "u")


def within_a_rate(log: Log) -> None:
    log.limit("a", rate=2, per_ms=1000)
    let_in(log, "t", "u")
    log.wait(500)
    let_in(log, "v")
    log.wait(5000)
    let_in(log, "w", "x")
    log.limit("a", rate=1, per_ms=1000, burst=3)
    let_in(log, "y", "z")


def above_a_rate(log: Log) -> None:
    log.limit("a", rate=2, per_ms=1000)
    let_in(log, "t", "u")
    log.wait(499)
    let_in(log, "v")


def above_a_burst(log: Log) -> None:
    log.limit("a", rate=3, burst=1)
    log.wait(60_000)
    let_in(log, "t", "u")


def in_one_row(log: Log) -> None:
    for task in ("t", "u"):
        log.held(task, BOTH)
        log.queued(task)
        log.admitted("a", task)
        log.admitted("b", task)
    # Between attempts a task holds nothing; offered anew it keeps what it holds.
    log.wait(60_000)
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.admitted("b", "t")
    log.admitted("a", "t")


def offered_alone(log: Log) -> None:
    log.held("t", LIMITED)
    log.queued("t")


def offered_alone_before_others(log: Log) -> None:
    log.held("t", LIMITED)
    log.queued("t")
    log.started()


def offered_alone_before_a_setting(log: Log) -> None:
    log.held("t", LIMITED)
    log.queued("t")
    log.limit("a")


def let_in_under_one_of_two(log: Log) -> None:
    log.held("t", BOTH)
    log.queued("t")
    log.admitted("a", "t")
    log.ran("u")


def let_in_twice(log: Log) -> None:
    let_in(log, "t")
    log.admitted("a", "t")


def let_in_with_a_gap(log: Log) -> None:
    log.held("t", LIMITED)
    log.queued("t")
    log.queued("u")
    log.admitted("a", "t")


def nobody_let_in(log: Log) -> None:
    log.admitted("a")


def one_named_twice(log: Log) -> None:
    log.held("t", LIMITED)
    log.queued("t")
    log.admitted("a", "t", "t")


# Budgets.


def use(log: Log, task: str, cost: int = USD) -> None:
    log.queued(task)
    log.claimed(task)
    log.ended("completed", task, usage={"cost_micro_usd": cost})


def used_up(log: Log, action: str = "hold") -> None:
    log.budget("x", budget=USED | {"action": action})
    log.held("t", PAID)
    log.held("u", PAID)
    use(log, "t")


def held_back(log: Log) -> None:
    used_up(log)
    # Decided before.
    log.wait(10)
    log.queued("u")
    log.exhausted("x", USD)
    log.held("u")
    log.wait(60_000)
    log.budget("x", budget=USED, is_reset=True)
    log.queued("u")
    log.claimed("u")


def warned(log: Log) -> None:
    used_up(log, "warn")
    log.exhausted("x", USD, action="warn")
    log.wait(60_000)
    log.queued("u")


def of_a_tree(log: Log) -> None:
    log.held("t", {"budget": USED})
    log.held("u", {"parent_id": "t", "budgets": ["t"]})
    log.queued("u")
    log.claimed("u")
    log.ended("completed", "u", usage={"cost_micro_usd": USD})
    log.exhausted("t", USD)


def offered_late(log: Log) -> None:
    used_up(log)
    log.wait(10_001)
    log.queued("u")


def offered_late_under_a_tree(log: Log) -> None:
    of_a_tree(log)
    log.wait(60_000)
    log.queued("t")


def told_truly(log: Log) -> None:
    log.budget("x", budget={"tokens": 10, "wall_ms": 3000})
    log.held("t", PAID)
    log.held("u", PAID)
    for task, usage in (("t", {"input_tokens": 3, "output_tokens": 4}), ("u", None)):
        log.queued(task)
        log.claimed(task)
        log.wait(1500)
        # Without a time of its own it ran from its claim on.
        log.ended("completed", task, ran_ms=None, usage=usage)
    log.exhausted("x", 0, resource="wall", spent={"tokens": 7, "wall_ms": 3000})
    log.budget("x", budget={"tokens": 7})
    log.exhausted("x", 0, resource="tokens", spent={"tokens": 7, "wall_ms": 3000})


def told_twice(log: Log) -> None:
    used_up(log)
    log.exhausted("x", USD)
    log.exhausted("x", USD)


def told_too_early(log: Log) -> None:
    log.budget("x", budget=USED)
    log.exhausted("x", 5)


def told_more_than_was_used(log: Log) -> None:
    log.budget("x", budget=USED)
    log.exhausted("x", USD)


def told_of_another_amount(log: Log) -> None:
    used_up(log)
    log.exhausted("x", USD, resource="tokens")


def told_of_another_action(log: Log) -> None:
    used_up(log)
    log.exhausted("x", USD, action="stop")


def told_of_nothing(log: Log) -> None:
    log.exhausted("x", USD)


def without_its_parents_budgets(log: Log) -> None:
    log.held("t", {"budget": USED, "budgets": ["x"]})
    log.held("u", {"parent_id": "t", "budgets": ["t"]})


def without_any_budget(log: Log) -> None:
    log.held("t", {"budget": USED})
    log.queued("u", {"parent_id": "t"})


# Credentials.

CLAUDE = {"executor": "claude", "fair_key": "f"}
OTHER = {"executor": "claude", "fair_key": "f", "args": {"credential": "other"}}


def pause(log: Log, name: str = "claude", until: str | None = None) -> None:
    log.add(f"credential.{name}", "paused", error_class="auth", error="no", until=until)


def offered_while_it_may(log: Log) -> None:
    log.held("t", CLAUDE)
    log.held("u", OTHER)
    pause(log)
    log.wait(10)
    log.queued("t")
    log.held("t")
    log.wait(60_000)
    log.queued("u")
    log.add("credential.claude", "resumed")
    log.queued("t")
    pause(log, "other", until="2026-01-01T00:02:00Z")
    log.wait(60_000)
    log.held("v", OTHER)
    log.queued("v")
    log.queued("free", {"executor": "claude"})


def offered_while_paused(log: Log) -> None:
    log.held("t", CLAUDE)
    pause(log)
    log.wait(9_000)
    pause(log)
    log.wait(2_000)
    log.queued("t")


CASES = [
    Case(
        "limit.places",
        (within_places, within_a_family, decided_before_the_family_was_set),
        (above_places, above_places_at_once, above_lowered_places, above_a_family),
    ),
    Case("limit.rate", (within_a_rate,), (above_a_rate, above_a_burst)),
    Case("limit.rate", (above_a_rate,), (above_a_burst,), tolerance=Tolerance(skew_ms=1)),
    Case(
        "limit.batch",
        (in_one_row,),
        (
            *(offered_alone, offered_alone_before_others, offered_alone_before_a_setting),
            *(let_in_under_one_of_two, let_in_twice, let_in_with_a_gap, nobody_let_in),
            one_named_twice,
        ),
    ),
    Case(
        "limit.batch",
        (offered_alone, offered_alone_before_others),
        (let_in_under_one_of_two, let_in_twice, nobody_let_in),
        tolerance=Tolerance(bereft=frozenset({"a"})),
    ),
    Case("budget.hold", (held_back, warned), (offered_late, offered_late_under_a_tree)),
    Case(
        "budget.told",
        (told_truly, held_back, of_a_tree),
        (
            *(told_twice, told_too_early, told_more_than_was_used, told_of_another_amount),
            *(told_of_another_action, told_of_nothing),
        ),
    ),
    Case("budget.inherited", (of_a_tree,), (without_its_parents_budgets, bad(without_any_budget))),
    Case("credential.paused", (offered_while_it_may,), (offered_while_paused,)),
]
