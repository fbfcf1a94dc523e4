"""Letting tasks in, in a small world: what a coordinator does without being told."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from support.join_world import USD, World, WorldClock

from fleetlog.bus.admitting import AGAIN_S
from fleetlog.bus.core import admission as module
from fleetlog.bus.core.admission_acts import Admit, Exhaust
from fleetlog.bus.core.budgets import BudgetState
from fleetlog.bus.core.commands import GiveAnswer, Return, Submit
from fleetlog.bus.errors import ConfigError, Unavailable
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.events import (
    BudgetExhausted,
    BudgetSet,
    LimitSet,
)
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import TaskSpec, payload_digest
from tests.given import T0


async def world_with(*limits: LimitSet) -> World:
    world = World(seats=1)
    await world.start_agent(workers=2)
    for each in limits:
        await world.set_bound("limit", each)
    return world


def limit(key: str, **setting: int) -> LimitSet:
    return LimitSet(id=f"set {key}", occurred_at=T0, **{"key": key, **setting})  # type: ignore[arg-type]


async def turn(world: World) -> list[str]:
    """The seat does all it can; the ids of what is on offer then, in the log's order."""
    seat = world.seats[0]
    while True:
        await seat.read()
        count = await seat.act() + seat.plan()
        while seat.waiting:
            await seat.do()
        if not count:
            break
    tasks = [each for each in world.tasks().values() if each.status == "queued"]
    return [each.id for each in sorted(tasks, key=lambda task: task.offer)]


async def test_a_rate_wakes_the_coordinator_when_the_next_may_start() -> None:
    world = await world_with(limit("k", rate=1, per_ms=1_000))
    for _ in range(3):
        await world.submit(TaskSpec(handler="h", limits=("k",)))
    assert await turn(world) == ["t1"]
    assert world.seats[0].fold.admission.next_at() == T0 + timedelta(seconds=1)
    world.clock.pass_ms(999)
    assert await turn(world) == ["t1"]
    world.clock.pass_ms(1)
    assert await turn(world) == ["t1", "t2"]
    world.clock.pass_ms(5_000)
    assert await turn(world) == ["t1", "t2", "t3"]
    assert world.seats[0].fold.admission.next_at() is None


async def test_the_high_come_first_then_the_old() -> None:
    world = await world_with(limit("k", concurrency=1))
    for priority in ("low", "normal", "normal", "high"):
        world.clock.pass_ms(1)
        await world.submit(TaskSpec(handler="h", limits=("k",), priority=priority))
    order = []
    while offered := await turn(world):
        order += offered
        await world.claim(world.tasks()[offered[0]])
        await world.finish(world.tasks()[offered[0]], how="complete")
    assert order == ["t4", "t2", "t3", "t1"]


async def test_those_who_wait_for_more_than_one_thing_have_their_turn_by_priority_and_age() -> None:
    world = await world_with(limit("k", concurrency=1), limit("j", concurrency=5))
    kinds = [("k",), ("k", "j"), ("k",), ("k", "j"), ("k",)]
    for limits in kinds:
        world.clock.pass_ms(1)
        await world.submit(TaskSpec(handler="h", limits=limits))
    world.clock.pass_ms(1)
    await world.submit(TaskSpec(handler="h", limits=("k", "j"), priority="high"))
    order = []
    while offered := await turn(world):
        order += offered
        await world.claim(world.tasks()[offered[0]])
        await world.finish(world.tasks()[offered[0]], how="complete")
    assert order == ["t6", "t1", "t2", "t3", "t4", "t5"]


async def test_a_family_that_is_set_later_counts_at_once() -> None:
    world = await world_with(limit("user:*", concurrency=0))
    for user in ("user:ann", "user:bob"):
        await world.submit(TaskSpec(handler="h", limits=(user,)))
    assert await turn(world) == []
    await world.set_bound("limit", LimitSet(id="own", occurred_at=T0, key="user:bob"))
    assert await turn(world) == ["t2"]
    world.clock.pass_ms(1)
    await world.set_bound("limit", limit("user:*", concurrency=1))
    assert await turn(world) == ["t2", "t1"]


async def test_tasks_under_a_budget_are_offered_for_free_slots_alone() -> None:
    world = await world_with()
    for _ in range(5):
        await world.submit(TaskSpec(handler="h", budget=Budget(cost_micro_usd=9 * USD)))
    assert await turn(world) == ["t1", "t2"]
    await world.claim(world.tasks()["t1"])
    assert await turn(world) == ["t2"]
    await world.finish(world.tasks()["t1"], how="complete")
    assert await turn(world) == ["t2", "t3"]


async def test_a_slot_that_is_reserved_is_free_for_high_tasks_alone() -> None:
    world = World(seats=1)
    await world.start_agent(workers=2, reserve_high=1)
    amounts = Budget(cost_micro_usd=9 * USD)
    low, later, high = [
        await world.submit(TaskSpec(handler="h", budget=amounts, priority=priority))
        for priority in ("low", "low", "high")
    ]
    assert sorted(await turn(world)) == sorted([low, high])
    await world.claim(world.tasks()[high])
    assert await turn(world) == [low]
    await world.finish(world.tasks()[high], how="complete")
    # The low one is still on offer, for the slot that is not reserved.
    assert await turn(world) == [low]
    high = await world.submit(TaskSpec(handler="h", budget=amounts, priority="high"))
    assert await turn(world) == [low, high]
    await world.claim(world.tasks()[low])
    assert await turn(world) == [high]
    await world.claim(world.tasks()[high])
    await world.finish(world.tasks()[high], how="complete")
    assert await turn(world) == []
    await world.finish(world.tasks()[low], how="complete")
    assert await turn(world) == [later]


async def test_what_was_offered_is_taken_back_and_offered_again() -> None:
    world = await world_with()
    key = BudgetSet(id="b", occurred_at=T0, key="b", budget=Budget(cost_micro_usd=USD))
    await world.set_bound("budget", key)
    for _ in range(2):
        await world.submit(TaskSpec(handler="h", budgets=("b",), delay_ms=1_000))
    world.clock.pass_ms(1_000)
    assert await turn(world) == ["t1", "t2"]
    await world.claim(world.tasks()["t1"])
    await world.finish(world.tasks()["t1"], how="complete")
    assert await turn(world) == []
    assert world.tasks()["t2"].status == "held"
    more = BudgetSet(id="c", occurred_at=T0, key="b", budget=Budget(cost_micro_usd=5 * USD))
    await world.set_bound("budget", more)
    # At once: its delay is over.
    assert await turn(world) == ["t2"]
    assert world.tasks()["t2"].attempts == 0


async def test_budgets_of_trees_that_are_over_are_forgotten_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await world_with()
    await world.set_bound(
        "budget", BudgetSet(id="b", occurred_at=T0, key="kept", budget=Budget(tokens=1))
    )
    monkeypatch.setattr(module, "IDLE_BUDGETS_MAX", 3)
    submitted = []
    for _ in range(6):
        task_id = await world.submit(TaskSpec(handler="h", budget=Budget(tokens=9)))
        submitted.append(task_id)
        await turn(world)
        await world.claim(world.tasks()[task_id])
        await world.finish(world.tasks()[task_id], how="complete")
    await turn(world)
    assert list(world.seats[0].fold.admission.budgets) == ["kept", *submitted[-2:]]


async def test_a_replaced_task_stands_under_what_the_new_one_names() -> None:
    """Offered under one limit and in turn, then replaced by one under another, and by one that is free."""
    world = await world_with(limit("a", concurrency=1), limit("b", concurrency=0))
    first = await world.submit(TaskSpec(handler="h", limits=("a",), fair_key="f"))
    second = await world.submit(TaskSpec(handler="h", limits=("a",), budgets=("x",)))
    assert await turn(world) == [first]
    await replace(world, first, TaskSpec(handler="h", limits=("b",)))
    assert await turn(world) == [second]
    await replace(world, second, TaskSpec(handler="h"))
    assert await turn(world) == [second]
    await replace(world, first, TaskSpec(handler="h"))
    assert await turn(world) == [second, first]
    admission = world.seats[0].fold.admission
    assert not any((admission._holders, admission._under, admission._offered))


async def replace(world: World, task_id: str, spec: TaskSpec) -> None:
    command = Submit(
        id=world.new_id("r"), spec=spec, digest=payload_digest(spec), on_duplicate="replace"
    )
    await world.tell(world.tasks()[task_id], command)


async def test_of_many_with_fair_keys_a_window_is_on_offer() -> None:
    world = await world_with()
    for number in range(12):
        await world.submit(TaskSpec(handler="h", fair_key=f"key {number % 2}"))
    offered = await turn(world)
    assert len(offered) == module.WINDOW_MIN == module.WINDOW_SLOTS * 2
    await world.claim(world.tasks()[offered[0]])
    assert len(await turn(world)) == module.WINDOW_MIN


async def test_budgets_that_were_set_are_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_BUDGETS_MAX", 0)
    world = await world_with()
    key = BudgetSet(id="b", occurred_at=T0, key="b", budget=Budget(tokens=9))
    await world.set_bound("budget", key)
    task_id = await world.submit(TaskSpec(handler="h", budgets=("b",)))
    await turn(world)
    await world.claim(world.tasks()[task_id])
    await world.finish(world.tasks()[task_id], how="complete")
    await turn(world)
    assert world.seats[0].fold.admission.budgets["b"].spent.tokens == 1


async def test_a_budget_that_warns_is_told_of_and_holds_nothing_back() -> None:
    world = await world_with()
    amounts = Budget(cost_micro_usd=USD, action="warn")
    await world.set_bound("budget", BudgetSet(id="b", occurred_at=T0, key="b", budget=amounts))
    for _ in range(2):
        await world.submit(TaskSpec(handler="h", budgets=("b",)))
    await use_up(world, "t1")
    assert await turn(world) == ["t2"]
    assert told_of(world) == ["b"]


async def test_of_a_budget_that_was_raised_in_time_nothing_is_told() -> None:
    world = await world_with()
    for number, amount in enumerate((USD, 5 * USD)):
        budget = Budget(cost_micro_usd=amount)
        event = BudgetSet(id=f"b{number}", occurred_at=T0, key="b", budget=budget)
        await world.set_bound("budget", event)
        if number == 0:
            await world.submit(TaskSpec(handler="h", budgets=("b",)))
            await use_up(world, "t1")
    assert await turn(world) == []
    assert told_of(world) == []


async def use_up(world: World, task_id: str) -> None:
    """Runs a task, which uses a dollar; the coordinator has not looked since."""
    assert task_id in await turn(world)
    await world.claim(world.tasks()[task_id])
    await world.finish(world.tasks()[task_id], how="complete")


def told_of(world: World) -> list[str]:
    events = [record.event for record in world.records()]
    return [event.key for event in events if isinstance(event, BudgetExhausted)]


async def test_what_was_answered_waits_for_room_again() -> None:
    world = await world_with(limit("k", concurrency=1))
    asking = await world.submit(TaskSpec(handler="h", limits=("k",)))
    other = await world.submit(TaskSpec(handler="h", limits=("k",)))
    await turn(world)
    await world.claim(world.tasks()[asking])
    task = world.tasks()[asking]
    assert task.lease is not None
    why = {"error_class": "needs_input", "error": "which?"}
    await world.tell(
        task, Return(id="ask", fence=task.lease.fence, question=Question(text="which?"), **why)
    )
    assert await turn(world) == [other]
    task = world.tasks()[asking]
    await world.tell(task, GiveAnswer(id="answer", asked=task.asked, answer="this"))
    assert world.tasks()[asking].status == "held"
    assert await turn(world) == [other]
    await world.claim(world.tasks()[other])
    await world.finish(world.tasks()[other], how="complete")
    assert await turn(world) == [asking]
    assert [each.answer for each in world.tasks()[asking].answers] == ["this"]
    assert world.tasks()[asking].attempts == 1


async def test_what_no_agent_can_take_is_in_nobodys_way() -> None:
    world = await world_with()
    for kind in ({"fair_key": "a"}, {"budget": Budget(tokens=9)}):
        for _ in range(6):
            await world.submit(TaskSpec(handler="h", requires={"gpu": "no"}, **kind))
        await turn(world)
        last = await world.submit(TaskSpec(handler="h", **kind))
        assert last in await turn(world), kind
    offered = [world.tasks()[each].spec for each in await turn(world)]
    # Under a budget nothing is offered that no free slot is for.
    assert not [spec for spec in offered if spec and spec.budget and spec.requires]


async def test_what_no_agent_can_take_has_no_place_under_a_limit_until_one_comes() -> None:
    world = World(seats=1)
    await world.set_bound("limit", limit("k", concurrency=1))
    needy = await world.submit(TaskSpec(handler="h", limits=("k",), requires={"gpu": "yes"}))
    assert await turn(world) == []
    other = await world.submit(TaskSpec(handler="h", limits=("k",)))
    assert await turn(world) == [other]
    await world.claim(world.tasks()[other])
    await world.finish(world.tasks()[other], how="complete")
    assert await turn(world) == []
    await world.start_agent(workers=1)
    assert await turn(world) == [needy]


async def test_a_task_that_was_replaced_while_it_was_let_in_has_its_new_delay() -> None:
    world = await world_with(limit("k", concurrency=1))
    task_id = await world.submit(TaskSpec(handler="h", limits=("k",)))
    [seat] = world.seats
    await seat.read()
    await seat.act()
    assert seat.plan() == 1
    later = TaskSpec(handler="h", limits=("k",), delay_ms=3_600_000)
    command = Submit(id="new", spec=later, digest="other", on_duplicate="replace")
    await world.tell(world.tasks()[task_id], command)
    await seat.do()
    world.clock.pass_ms(1)
    other = await world.submit(TaskSpec(handler="h", limits=("k",)))
    assert await turn(world) == [other]
    await world.claim(world.tasks()[other])
    await world.finish(world.tasks()[other], how="complete")
    assert await turn(world) == []
    world.clock.pass_ms(3_600_000)
    assert await turn(world) == [task_id]


async def test_one_who_stands_by_forgets_what_has_settled_under_a_budget_that_is_used_up() -> None:
    world = World(seats=1)
    key = BudgetSet(id="b", occurred_at=T0, key="b", budget=Budget(cost_micro_usd=0))
    await world.set_bound("budget", key)
    for _ in range(3):
        task_id = await world.submit(TaskSpec(handler="h", budgets=("b",)))
        await world.cancel(world.tasks()[task_id])
    await world.seats[0].read()
    assert not world.seats[0].fold.admission._orders


async def test_replacing_over_and_over_leaves_nothing_in_the_line() -> None:
    world = await world_with(limit("k", concurrency=0))
    others = [await world.submit(TaskSpec(handler="h", limits=("k",))) for _ in range(2)]
    for number in range(200):
        spec = TaskSpec(handler="h", limits=("k",), priority="high" if number < 199 else "low")
        command = Submit(id=f"n{number}", spec=spec, digest=str(number), on_duplicate="replace")
        await world.tell(world.tasks()[others[0]], command)
        await turn(world)
    [line] = world.seats[0].fold.admission._lines._lines.values()
    assert sum(map(len, line._by_key.values())) < 20
    await world.set_bound("limit", limit("k", concurrency=1))
    # As it is now, it comes after the other.
    assert await turn(world) == [others[1]]


async def admitting(error: Exception) -> tuple[World, Admit]:
    """A coordinator that is about to offer two tasks whose turn it is, on a log that refuses them."""
    world = await world_with()
    for _ in range(2):
        await world.submit(TaskSpec(handler="h", fair_key="f"))
    [seat] = world.seats
    await seat.read()
    await seat.act()
    assert seat.plan() == 1
    [act] = seat.waiting
    assert isinstance(act, Admit)
    world.log.refusal = error
    return world, act


async def test_what_the_server_refuses_is_tried_again_after_a_pause(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept_s: list[float] = []

    async def sleep(_: WorldClock, delay_s: float) -> None:
        slept_s.append(delay_s)

    monkeypatch.setattr(WorldClock, "sleep", sleep)
    world, act = await admitting(Unavailable("the log is full"))
    [seat] = world.seats
    await seat.admitter.do(act)
    assert slept_s == [AGAIN_S]
    assert "tasks have to wait to be let in: the log is full" in caplog.text
    seat.waiting.clear()
    assert seat.plan() == 1, "they stand in line again"


async def test_a_missing_permission_ends_the_coordinator() -> None:
    world, act = await admitting(ConfigError("no permission"))
    with pytest.raises(ConfigError, match="no permission"):
        await world.seats[0].admitter.do(act)


async def test_a_budget_that_was_set_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_BUDGETS_MAX", 0)
    world = await world_with()
    key = BudgetSet(id="b", occurred_at=T0, key="b", budget=Budget(tokens=9))
    await world.set_bound("budget", key)
    task_id = await world.submit(TaskSpec(handler="h", budgets=("b",)))
    await world.cancel(world.tasks()[task_id])
    await turn(world)
    admission = world.seats[0].fold.admission
    assert list(admission.budgets) == ["b"]
    admission.put_back(Exhaust(BudgetState(id="forgotten")))
    assert admission.acts(world.log.now(), 1) == []


async def test_what_needs_a_paused_credential_is_in_nobodys_way() -> None:
    """Under a limit, and for the slots of a budget: its offer is taken back, and others go on."""
    world = await world_with(limit("k", concurrency=1))
    needing = TaskSpec(handler="h", executor="claude", limits=("k",), budget=Budget(tokens=9))
    first = await world.submit(needing)
    other = await world.submit(TaskSpec(handler="h", limits=("k",)))
    assert await turn(world) == [first]
    await world.say_of_credential("claude", is_paused=True)
    assert await turn(world) == [other]
    assert world.tasks()[first].status == "held"
    await world.claim(world.tasks()[other])
    await world.finish(world.tasks()[other], how="complete")
    assert await turn(world) == []
    await world.say_of_credential("claude", is_paused=False)
    assert await turn(world) == [first]
    # Claimed before it was paused again: what runs goes on.
    await world.claim(world.tasks()[first])
    until = world.clock.now() + timedelta(seconds=5)
    await world.say_of_credential("claude", is_paused=True, until=until)
    assert await turn(world) == []
    assert world.tasks()[first].status == "claimed"
    await world.finish(world.tasks()[first], how="complete")


async def test_a_pause_ends_by_itself_and_a_restart_knows_it() -> None:
    world = await world_with(limit("k", concurrency=1))
    until = world.clock.now() + timedelta(seconds=5)
    await world.say_of_credential("claude", is_paused=True, until=until)
    held = await world.submit(TaskSpec(handler="h", executor="claude", limits=("k",)))
    own = msgspec.Raw(b'{"credential":"other"}')
    free = await world.submit(TaskSpec(handler="h", executor="claude", args=own, limits=("k",)))
    assert await turn(world) == [free]
    await world.claim(world.tasks()[free])
    await world.finish(world.tasks()[free], how="complete")
    await turn(world)
    await world.seats[0].save()
    await world.seats[0].restore()
    assert await turn(world) == []
    assert world.seats[0].fold.admission.next_at() == T0 + timedelta(seconds=5)
    world.clock.pass_ms(5_000)
    assert await turn(world) == [held]


async def test_a_budget_that_stops_cancels_what_runs_and_what_waits_each_once() -> None:
    world = await world_with()
    amounts = Budget(cost_micro_usd=USD, action="stop")
    await world.set_bound("budget", BudgetSet(id="b", occurred_at=T0, key="b", budget=amounts))
    for _ in range(3):
        await world.submit(TaskSpec(handler="h", budgets=("b", "unbounded")))
    await turn(world)
    for name in ("t1", "t2"):
        await world.claim(world.tasks()[name])
    await world.finish(world.tasks()["t1"], how="complete")
    assert await turn(world) == []
    assert [world.tasks()[name].status for name in ("t1", "t3")] == ["completed", "cancelled"]
    assert world.tasks()["t2"].is_cancel_requested
    version = world.tasks()["t2"].version
    await world.seats[0].save()
    await world.seats[0].restore()
    await turn(world)
    assert world.tasks()["t2"].version == version
    # A command that could not be carried out comes again, and what has ended meanwhile needs none.
    admission = world.seats[0].fold.admission
    admission.put_back_task(world.tasks()["t2"])
    admission.put_back_task(world.tasks()["t3"])
    await world.finish(world.tasks()["t2"], how="obey")
    await turn(world)
    assert not admission._orders


async def test_what_was_planned_and_is_gone_is_not_put_back() -> None:
    world, act = await admitting(Unavailable("gone"))
    world.log.refusal = None
    [seat] = world.seats
    seat.waiting.clear()
    await world.cancel(world.tasks()["t1"])
    await seat.read()
    await seat.act()
    seat.fold.admission.put_back(act)
    assert await turn(world) == ["t2"]


async def test_a_limit_that_nobody_set_bounds_nothing_until_it_is_set() -> None:
    world = await world_with()
    for _ in range(3):
        await world.submit(TaskSpec(handler="h", limits=("nowhere",)))
    assert await turn(world) == ["t1", "t2", "t3"]
    await world.set_bound("limit", limit("nowhere", concurrency=3))
    await world.submit(TaskSpec(handler="h", limits=("nowhere",)))
    assert await turn(world) == ["t1", "t2", "t3"]
