"""Barriers under random schedules; what must hold is read from the log alone."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.barrier_reading import Reading, check, openings
from support.join_world import World, kept_by
from support.judging import check_log

from fleetlog.bus.core import Task
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.fan_outs import FanOutSpec, Policy, plan_fan_out
from fleetlog.schemas.ids import key_id
from fleetlog.schemas.specs import TaskSpec

pytestmark = pytest.mark.usefixtures("unmeasured")

ROUNDS_MAX = 150
STEPS = (
    *("open", "open", "submit", "cancel", "abandon", "time"),
    *["agent"] * 6,
    *("read", "read", "plan", "plan", "do", "do", "save", "restore", "forget"),
    *("go on", "lose"),
)


class Chance:
    """All that is random about one schedule."""

    def __init__(self, seed: int, *, may_cancel: bool) -> None:
        self.random = random.Random(seed)
        self.may_cancel = may_cancel

    def odds(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def fan_out(self, world: World, barrier_id: str, parent: str | None) -> FanOutSpec:
        members = self.members(world, is_top=parent is None)
        policies: list[Policy] = ["settled", "settled", "all"]
        policies += ["any"] if members else []
        policies += ["quorum"] if len(members) > 1 else []
        policy = self.random.choice(policies)
        return plan_fan_out(
            barrier_id,
            members,
            then=self.continuation(),
            policy=policy,
            quorum=2 if policy == "quorum" else None,
            stragglers=self.random.choice(("cancel", "cancel", "wait")),
            deadline_ms=self.random.choice((None, None, 2_000)) if self.may_cancel else None,
            parent_id=parent,
        )

    def members(self, world: World, *, is_top: bool) -> list[TaskSpec | str]:
        """New ones, ones with keys that others have too, and ones that are there; nothing makes a circle."""
        found: dict[str, TaskSpec | str] = {}
        there = [t.id for t in world.tasks().values() if is_top or _is_at_rest(t)]
        for number in range(self.random.choice((0, 1, 2, 3, 5))):
            if there and self.odds(4):
                task_id = self.random.choice(there)
                found.setdefault(task_id, task_id)
            elif is_top and self.odds(5):
                key = f"key{self.random.randrange(4)}"
                found[key_id(key)] = TaskSpec(handler="h", key=key)
            else:
                found[f"new {number}"] = TaskSpec(handler=f"h{number}")
        return list(found.values())

    def continuation(self) -> TaskSpec | None:
        if self.odds(4):
            return None
        return TaskSpec(handler="then", delay_ms=1_500 if self.odds(4) else 0)


def _is_at_rest(task: Task) -> bool:
    """It waits for nothing."""
    return task.is_settled and not getattr(task.outcome, "fan_out", None)


async def client_step(world: World, chance: Chance, kind: str) -> None:
    tasks = list(world.tasks().values())
    pick = chance.random
    opened = list(openings(world.records()))
    claimed = [task for task in tasks if task.status == "claimed"]
    match kind:
        case "open":
            barrier_id = world.new_id("b")
            parent = pick.choice(claimed).id if claimed and chance.odds(4) else None
            plan = chance.fan_out(world, barrier_id, None)
            made, is_large = pick.choice((0, 1, 2, 99)), chance.odds(4)
            await world.open(plan, barrier_id, made=made, is_large=is_large, parent=parent)
        case "submit":
            after = [t.id for t in pick.sample(tasks, min(len(tasks), pick.randrange(3)))]
            await world.submit(TaskSpec(handler="h", after=tuple(after)))
        case "cancel" if chance.may_cancel and tasks:
            await world.cancel(pick.choice(tasks))
        case "abandon" if chance.may_cancel and opened:
            await world.abandon(pick.choice(opened))


async def agent_step(world: World, chance: Chance) -> None:
    tasks = [t for t in world.tasks().values() if t.status in ("queued", "claimed")]
    if not tasks:
        return
    task = chance.random.choice(tasks)
    if task.status == "queued":
        await world.claim(task)
    elif chance.odds(3):
        plan = chance.fan_out(world, task.id, task.id)
        made = chance.random.choice((0, 1, 99))
        await world.spread(task, plan, made=made, is_large=chance.odds(4))
    else:
        await world.finish(task, how=chance.random.choice(("complete", "complete", "fail", "obey")))


async def seat_step(world: World, chance: Chance, kind: str) -> None:
    pick = chance.random
    seat = pick.choice(world.seats)
    match kind:
        case "read":
            await seat.read(pick.choice((1, 3, 1000)))
        case "plan":
            seat.plan(pick.choice((1, 3, 1000)))
        case "do":
            for _ in range(pick.choice((1, 5))):
                world.log.trouble = pick.choice(("", "", "", "request", "answer"))
                await seat.do(pick.randrange(100))
                world.log.trouble = ""
        case "save":
            await seat.save()
        case "restore":
            await seat.restore()
        case "forget":
            seat.begin(Unsettled())


async def step(world: World, chance: Chance) -> None:
    """Somebody does something."""
    kind = chance.random.choice(STEPS)
    if kind == "agent":
        await agent_step(world, chance)
    elif kind == "go on":
        await world.go_on(chance.random.randrange(100))
    elif kind == "lose" and chance.odds(3):
        world.lose(chance.random.randrange(100))
    elif kind == "time":
        world.clock.pass_ms(chance.random.choice((1, 400, 1_100, 2_500)))
    elif kind in ("open", "submit", "cancel", "abandon"):
        await client_step(world, chance, kind)
    else:
        await seat_step(world, chance, kind)


async def quiet(world: World, chance: Chance) -> None:
    """One coordinator, time and an obedient agent until nothing is left."""
    seat = world.seats[0]
    calm = 0
    for _ in range(ROUNDS_MAX):
        end = await world.log.end()
        await seat.read()
        seat.plan(chance.random.choice((2, 1000)))
        while seat.waiting:
            await seat.do(chance.random.randrange(100))
        await seat.read()
        await seat.act()
        for task in world.tasks().values():
            if task.status == "queued":
                await world.claim(task)
            elif task.status == "claimed":
                await world.finish(task, how="fail" if chance.odds(6) else "obey")
        world.clock.pass_ms(700)
        if chance.odds(10):
            await world.go_on(chance.random.randrange(100))
        calm = calm + 1 if await world.log.end() == end else 0
        if calm == 8:
            return
    raise AssertionError("it never comes to rest")


async def lived(seed: int, steps: int, *, may_cancel: bool) -> World:
    chance = Chance(seed, may_cancel=may_cancel)
    world = World()
    for _ in range(steps):
        await step(world, chance)
    await quiet(world, chance)
    return world


async def check_forgotten(world: World) -> None:
    """Nothing is kept of what is over, by those that acted and by a standby."""
    standby = world.seats[1]
    standby.begin(Unsettled())
    await standby.read()
    for seat in world.seats:
        await seat.read()
        assert seat.fold.violation_count == 0
    # Members that go on and that a standby knows nothing of are the only thing that takes a look at the log.
    kept = standby.fold.joins.joins.values()
    assert all(not j.is_cancelling and (j.is_unread or j.unseen) for j in kept)
    assert kept_by(standby.fold.joins)["agendas"] == len(kept)
    joins = world.seats[0].fold.joins
    assert not any(kept_by(joins).values())


@given(st.integers(0, 2**32), st.integers(30, 150), st.booleans())
def test_every_barrier_ends_once_by_its_rule(seed: int, steps: int, may_cancel: bool) -> None:
    async def live(seed: int) -> None:
        world = await lived(seed, steps, may_cancel=may_cancel)
        reading = Reading(world.records(), world.kept)
        check(reading, has_cancelled=world.has_cancelled)
        await check_forgotten(world)
        check_log(world.log._messages, objects=world.kept, is_quiet=True)

    asyncio.run(live(seed))
    asyncio.run(live(seed + 1))
