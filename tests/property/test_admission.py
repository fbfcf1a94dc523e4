"""Letting tasks in under random schedules; what must hold is read from the log alone."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.join_world import USD, World
from support.judging import check_log
from support.limit_reading import check_limits

from fleetlog.bus.core import Task
from fleetlog.bus.core.commands import GiveAnswer
from fleetlog.bus.errors import ConflictError, TransportError
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.events import BudgetExhausted, BudgetSet, LimitSet
from fleetlog.schemas.specs import Backoff, TaskSpec

pytestmark = pytest.mark.usefixtures("unmeasured")

LIMITS = ("a", "b")
BUDGETS = ("x", "y")
ROUNDS_MAX = 200
STEPS = (
    *["submit"] * 8,
    *["agent"] * 20,
    *["turn"] * 16,
    *("read", "read", "plan", "plan", "do", "do", "do", "act", "act"),
    *("limit", "limit", "budget", "time", "time", "cancel", "save", "restore", "trouble"),
    *("answer", "answer", "replace", "credential"),
)


class Chance:
    """All that is random about one schedule."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def some(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if self.random.randrange(2))

    def spec(self) -> TaskSpec:
        own = Budget(cost_micro_usd=USD) if self.random.randrange(6) == 0 else None
        return TaskSpec(
            handler="h",
            limits=self.some(LIMITS),
            budgets=self.some(BUDGETS) if self.random.randrange(3) == 0 else (),
            budget=own,
            fair_key=self.random.choice((None, None, "f", "g")),
            executor=self.random.choice(("python", "python", "claude")),
            priority=self.random.choice(("high", "normal", "low")),
            delay_ms=self.random.choice((0, 0, 500)),
            requires=self.random.choice(({}, {}, {"gpu": "yes"})),
            affinity=self.random.choice((None, None, "p", "q")),
            affinity_ms=self.random.choice((1, 700)),
            backoff=Backoff(first_ms=100),
            expires_ms=self.random.choice((None, None, None, 5_000)),
        )

    def limit(self, world: World, key: str) -> LimitSet:
        return LimitSet(
            id=world.new_id("l"),
            occurred_at=world.log.now(),
            key=key,
            concurrency=self.random.choice((None, 0, 1, 2, 3)),
            rate=self.random.choice((None, None, 1, 3)),
            burst=self.random.choice((None, 1, 2)),
        )

    def budget(self, world: World, key: str) -> BudgetSet:
        amounts = Budget(
            cost_micro_usd=self.random.choice((0, USD, 3 * USD)),
            action=self.random.choice(("warn", "hold", "hold", "stop")),
        )
        return BudgetSet(
            id=world.new_id("b"),
            occurred_at=world.log.now(),
            key=key,
            budget=amounts,
            is_reset=self.random.randrange(3) == 0,
        )


async def step(world: World, chance: Chance, kind: str) -> None:
    seat = chance.random.choice(world.seats)
    pick = chance.random.randrange(100)
    match kind:
        case "turn":
            await seat.read(chance.random.choice((5, 100)))
            await seat.act()
            seat.plan()
            for _ in range(chance.random.randrange(4)):
                await seat.do(pick)
        case "read":
            await seat.read(chance.random.choice((1, 2, 5, 100)))
        case "plan":
            seat.plan(chance.random.choice((1, 3, 100)))
        case "do":
            await seat.do(pick)
        case "act":
            await seat.act()
        case "save":
            await seat.save()
        case "restore":
            seat.waiting.clear()
            await seat.restore()
        case _:
            await disturb(world, chance, kind)


async def disturb(world: World, chance: Chance, kind: str) -> None:
    """What others do, and what happens to them."""
    match kind:
        case "submit":
            await world.submit(chance.spec())
        case "agent":
            await agent(world, chance)
        case "limit" | "budget" | "credential":
            await bind(world, chance, kind)
        case "answer":
            await answer(world)
        case "replace":
            if held := [t for t in world.tasks().values() if t.status in ("held", "queued")]:
                await world.replace(chance.random.choice(held), chance.spec())
        case "time":
            world.clock.pass_ms(chance.random.choice((10, 300, 1_000)))
        case "cancel":
            if open_tasks := [t for t in world.tasks().values() if not t.is_settled]:
                await world.cancel(chance.random.choice(open_tasks))
        case "trouble":
            world.log.trouble = chance.random.choice(("request", "answer"))


async def bind(world: World, chance: Chance, kind: str) -> None:
    """Someone sets what bounds tasks."""
    if kind == "limit":
        await world.set_bound("limit", chance.limit(world, chance.random.choice(LIMITS)))
    elif kind == "budget":
        await world.set_bound("budget", chance.budget(world, chance.random.choice(BUDGETS)))
    else:
        until = chance.random.choice((None, world.clock.now() + timedelta(seconds=2)))
        is_paused = bool(chance.random.randrange(2))
        await world.say_of_credential("claude", is_paused=is_paused, until=until)


async def agent(world: World, chance: Chance) -> None:
    """Claims something, or ends an attempt in any way."""
    tasks = list(world.tasks().values())
    chance.random.shuffle(tasks)
    for task in tasks:
        if task.status == "queued":
            await world.claim(task)
            return
        if task.status == "claimed":
            ends = ("complete", "complete", "obey", "fail", "retry", "return", "ask")
            await world.finish(task, how=chance.random.choice(ends))
            return


async def answer(world: World) -> None:
    """Someone answers all that is asked."""
    for task in world.tasks().values():
        if task.question is not None:
            given = GiveAnswer(id=world.new_id("g"), asked=task.asked, answer="yes", host="h")
            await world.tell(task, given)


async def settle(world: World, chance: Chance) -> list[Task]:
    """Faults are over and everything is wide: whatever was accepted ends."""
    world.log.trouble = ""
    for key in LIMITS:
        await world.set_bound(
            "limit", LimitSet(id=world.new_id("l"), occurred_at=world.log.now(), key=key)
        )
    await world.say_of_credential("claude", is_paused=False)
    open_tasks: list[Task] = []
    for _ in range(ROUNDS_MAX):
        seat = world.seats[0]
        await seat.read()
        await seat.act()
        seat.plan()
        while seat.waiting:
            await seat.do()
        await raise_budgets(world)
        await answer(world)
        for _ in range(5):
            await agent(world, chance)
        world.clock.pass_ms(1_000)
        open_tasks = [t for t in world.tasks().values() if not t.is_settled]
        if not open_tasks:
            break
    return open_tasks


async def raise_budgets(world: World) -> None:
    """Each that is used up gets more; one of a task tree has the task's id."""
    wide = Budget(cost_micro_usd=10**12)
    keys = {r.event.key for r in world.records() if isinstance(r.event, BudgetExhausted)}
    for key in sorted(keys):
        event = BudgetSet(id=world.new_id("b"), occurred_at=world.log.now(), key=key, budget=wide)
        await world.set_bound("budget", event)


async def run(seed: int) -> None:
    chance, world = Chance(seed), World()
    await world.start_agent(workers=3)
    for _ in range(chance.random.choice((50, 150, 400))):
        with suppress(ConflictError, TransportError):  # a writer's own trouble
            await step(world, chance, chance.random.choice(STEPS))
    open_tasks = await settle(world, chance)
    assert not open_tasks, [(t.id, t.status) for t in open_tasks]
    check_limits(world.records())
    await world.seats[0].finish()
    admission = world.seats[0].fold.admission
    assert admission._lines.is_empty
    assert not any((admission._holders, admission._under, admission._offered))
    check_log(world.log._messages, is_quiet=True)


@given(seed=st.integers(0, 2**63))
def test_no_schedule_lets_too_many_in_nor_leaves_anyone_out(seed: int) -> None:
    asyncio.run(run(seed))
