"""Limits and budgets, one at a time."""

from __future__ import annotations

from datetime import timedelta

from fleetlog.bus.core import Queue, Refusal, decide
from fleetlog.bus.core.budgets import BudgetState, charge, evolve_budget, spent_in
from fleetlog.bus.core.commands import Hold
from fleetlog.bus.core.limits import Limit, evolve_limit, family_of, starts_at, starts_left
from fleetlog.bus.core.task import Lease
from fleetlog.schemas.budgets import Budget, Spent, exhausted
from fleetlog.schemas.envelope import Recorded, UnknownEvent
from fleetlog.schemas.events import (
    BudgetExhausted,
    BudgetSet,
    Event,
    LimitAdmitted,
    LimitSet,
    TaskQueued,
    TaskReturned,
    Usage,
)
from tests.given import T0, at, claimed, fold, held, queued

RATE = LimitSet(id="s", occurred_at=T0, key="k", rate=10, per_ms=1_000, burst=3)


def ms(count: float) -> timedelta:
    return timedelta(milliseconds=count)


def record(seq: int, event: Event | UnknownEvent, after_ms: float = 0) -> Recorded:
    return Recorded(seq, T0 + ms(after_ms), None, event)


def admitted(count: int) -> LimitAdmitted:
    return LimitAdmitted(
        id="a", occurred_at=T0, key="k", tasks=tuple(f"t{n}" for n in range(count))
    )


def limit(*records: Recorded, family: LimitSet | None = None) -> Limit:
    state = Limit(id="k")
    for each in records:
        state = evolve_limit(state, each, family)
    return state


def test_a_bucket_is_full_at_first_and_fills_with_time() -> None:
    state = limit(record(1, RATE))
    assert starts_left(state, RATE, T0) == 3
    state = evolve_limit(state, record(2, admitted(3)))
    assert [starts_left(state, RATE, T0 + ms(each)) for each in (0, 99, 100, 250, 300, 9_999)] == [
        *(0, 0, 1, 2, 3),
        3,
    ]
    assert starts_at(state, RATE, 1) == T0 + ms(100)
    assert starts_at(state, RATE, 2) == T0 + ms(200)


def test_a_bucket_that_was_overdrawn_takes_longer() -> None:
    state = limit(record(1, RATE), record(2, admitted(5)))
    assert starts_left(state, RATE, T0 + ms(200)) == 0
    assert starts_left(state, RATE, T0 + ms(300)) == 1
    assert starts_at(state, RATE, 1) == T0 + ms(300)


def test_without_a_burst_the_bucket_is_as_large_as_the_rate() -> None:
    plain = LimitSet(id="s", occurred_at=T0, key="k", rate=4, per_ms=60_000)
    assert starts_left(limit(record(1, plain)), plain, T0) == 4


def test_what_is_not_set_or_has_no_rate_bounds_no_starts() -> None:
    places = LimitSet(id="s", occurred_at=T0, key="k", concurrency=2)
    assert starts_left(Limit(id="k"), None, T0) is None
    assert starts_left(limit(record(1, places)), places, T0) is None


def test_the_last_setting_holds_and_an_old_event_changes_nothing() -> None:
    places = LimitSet(id="s", occurred_at=T0, key="k", concurrency=2)
    state = limit(record(1, RATE), record(4, places), record(3, RATE))
    assert (state.setting, state.version, state.key) == (places, 4, "k")
    assert limit(record(1, RATE), record(2, UnknownEvent("limit.x", "new"))).version == 2


def test_a_limit_of_a_family_is_charged_by_the_familys_rate() -> None:
    state = limit(record(1, admitted(3)), family=RATE)
    assert state.setting is None
    assert starts_left(state, RATE, T0) == 0
    assert (family_of("user:ann:x"), family_of("user"), family_of("user:*")) == (
        *("user:*", None),
        None,
    )


def budget(*records: Recorded) -> BudgetState:
    state = BudgetState(id="b")
    for each in records:
        state = evolve_budget(state, each)
    return state


def amounts(seq: int, *, is_reset: bool = False, **fields: object) -> Recorded:
    whole = Budget(**fields)  # type: ignore[arg-type]
    return record(seq, BudgetSet(id="b", occurred_at=T0, key="b", budget=whole, is_reset=is_reset))


def test_each_amount_is_used_up_when_it_is_reached() -> None:
    whole = Budget(tokens=10, cost_micro_usd=20, wall_ms=30)
    assert exhausted(whole, Spent(tokens=9, cost_micro_usd=19, wall_ms=29)) is None
    assert exhausted(whole, Spent(tokens=10)) == "tokens"
    assert exhausted(whole, Spent(cost_micro_usd=20, tokens=10)) == "cost"
    assert exhausted(whole, Spent(wall_ms=30)) == "wall"
    assert exhausted(Budget(tokens=0), Spent()) == "tokens"


def test_only_hold_and_stop_keep_tasks_from_running() -> None:
    used = Spent(tokens=5)
    states = {
        action: charge(budget(amounts(1, tokens=5, action=action)), used)
        for action in ("warn", "hold", "stop")
    }
    assert {name: (s.is_holding, s.is_stopping) for name, s in states.items()} == {
        "warn": (False, False),
        "hold": (True, False),
        "stop": (True, True),
    }
    assert not BudgetState(id="b").is_holding


def test_what_is_said_of_a_budget_and_not_understood_changes_its_version_alone() -> None:
    state = budget(amounts(1, tokens=5))
    later = evolve_budget(state, record(2, UnknownEvent("budget.x", "new")))
    assert (later.version, later.budget) == (2, state.budget)
    assert evolve_budget(later, amounts(2, tokens=9)) is later


def test_only_what_is_on_offer_can_be_taken_back() -> None:
    command = Hold(id="h", reason="no")
    for task in (fold(held()), fold(queued(), claimed())):
        assert decide(command, task, T0) == Refusal("not_due", task)


def test_a_new_setting_keeps_what_was_used_unless_it_is_reset() -> None:
    state = charge(budget(amounts(1, tokens=5)), Spent(tokens=6))
    told = BudgetExhausted(
        id="x", occurred_at=T0, key="b", resource="tokens", action="hold", spent=state.spent
    )
    state = evolve_budget(state, record(2, told))
    assert state.told == state.budget
    raised = evolve_budget(state, amounts(3, tokens=7))
    assert (raised.spent.tokens, raised.exhausted, raised.told) == (6, None, None)
    assert evolve_budget(raised, amounts(4, tokens=7, is_reset=True)).spent == Spent()


def test_an_attempt_that_went_down_with_its_agent_ran_until_the_log_says_so() -> None:
    lease = Lease(
        fence=2,
        offer=1,
        attempt=1,
        agent_id="a",
        worker_id="w",
        host="h",
        claimed_at=T0,
    )
    usage = Usage(input_tokens=3, output_tokens=4, cost_micro_usd=5)
    lost = TaskReturned(
        id="e", occurred_at=T0, attempts=1, fence=2, error_class="lost", error="gone", usage=usage
    )
    assert spent_in(lost, lease, T0 + ms(1_500)) == Spent(tokens=7, cost_micro_usd=5, wall_ms=1_500)
    ended = TaskReturned(
        id="e", occurred_at=T0, attempts=1, error_class="drained", error="x", ran_ms=40
    )
    assert spent_in(ended, lease, T0 + ms(1_500)) == Spent(wall_ms=40)


def test_an_old_event_of_a_budget_changes_nothing() -> None:
    assert budget(amounts(2, tokens=5), amounts(1, tokens=6)) == budget(amounts(2, tokens=5))


def test_what_has_to_be_let_in_is_not_queued_by_time_alone() -> None:
    task = fold(held(delay_ms=0, limits=("k",)))
    answer = decide(Queue(id="q"), task, at(9))
    assert isinstance(answer, Refusal)
    assert answer.code == "not_due"
    assert isinstance(decide(Queue(id="q", is_admitted=True), task, at(9)), TaskQueued)
