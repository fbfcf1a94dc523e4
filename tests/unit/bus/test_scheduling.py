"""Coordinators that make tasks of schedules: old folds, full logs, lost requests."""

from __future__ import annotations

from typing import Any

import pytest
from support.schedule_world import World

from fleetlog.bus.core.schedule import instant_of
from fleetlog.bus.errors import ScheduleExists, ScheduleNotFound
from fleetlog.bus.schedules import (
    Wanted,
    change_schedule,
    load_schedule,
    read_schedules,
    set_schedule,
)
from fleetlog.bus.scheduling import LOOK
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import QueueDerived, ScheduleSet, TaskHeld, TaskQueued
from fleetlog.schemas.objects import INLINE_MAX_BYTES
from fleetlog.schemas.specs import TaskSpec
from tests.given import T0, at

SPEC = TaskSpec(handler="h")


def wanted(**rule: Any) -> Wanted:
    return Wanted(**{"spec": SPEC, **rule})


async def begun(seats: int = 1, **rule: Any) -> World:
    world = World(seats)
    await set_schedule(world.fleet, "s", wanted(**rule))
    return world


def made_s(world: World) -> list[float]:
    """Seconds from the first instant to those that have tasks, in the log's order."""
    instants = [
        instant_of("s", record.subject.id)
        for record in world.records()
        if record.subject is not None and isinstance(record.event, TaskQueued | TaskHeld)
    ]
    return [(each - T0).total_seconds() for each in instants if each is not None]


async def test_a_task_says_who_made_it_and_why() -> None:
    world = await begun(spec=TaskSpec(handler="h", delay_ms=5, queue="gpu"), every_ms=10_000)
    world.clock.pass_ms(10_000)
    await world.seats[0].read()
    await world.seats[0].act()
    rule, task = world.records()
    assert isinstance(rule.event, ScheduleSet)
    assert isinstance(task.event, TaskHeld)
    assert task.event.cause == rule.event.id
    assert task.event.id == "s-20260101T000010Z-scheduled"
    assert task.event.spec == TaskSpec(handler="h", delay_ms=5, queue="gpu", schedule="s")
    assert task.event.digest == rule.event.digest
    assert task.subject is not None
    assert task.subject.queue == "gpu"


async def test_agents_are_told_of_the_queue_for_what_a_task_requires_before_it_is_there() -> None:
    spec = TaskSpec(handler="h", requires={"gpu": "yes"})
    world = await begun(spec=spec, every_ms=10_000)
    await world.seats[0].read()
    world.clock.pass_ms(20_000)
    await world.seats[0].act()
    _, derived, *tasks = world.records()
    assert isinstance(derived.event, QueueDerived)
    assert derived.event.requires == {"gpu": "yes"}
    for task in tasks:
        assert derived.subject is not None
        assert task.subject is not None
        assert task.subject.queue == derived.subject.id
    assert made_s(world) == [10, 20]


async def test_two_who_know_the_same_make_one_task_for_each_instant() -> None:
    world = await begun(seats=2, every_ms=10_000)
    for seat in world.seats:
        await seat.read()
    world.clock.pass_ms(35_000)
    for seat in world.seats:
        await seat.act()
    assert made_s(world) == [10, 20, 30]


async def test_who_comes_to_know_another_rule_takes_nothing_of_the_old_one_for_done() -> None:
    world = await begun(every_ms=59_000, overlap="skip")
    [seat] = world.seats
    await seat.read()
    world.clock.pass_ms(44_000)
    await set_schedule(world.fleet, "s", wanted(every_ms=5_000), is_replacing=True)
    world.clock.pass_ms(16_000)
    # It plans by the old rule, and reads of the new one on the way.
    await seat.act()
    assert made_s(world) == [49, 54, 59]


async def test_what_was_made_of_the_old_rule_is_not_taken_for_the_new_ones() -> None:
    world = await begun(seats=2, every_ms=2_000)
    old, new = world.seats
    await old.read()
    await set_schedule(world.fleet, "s", wanted(every_ms=5_000), is_replacing=True)
    world.clock.pass_ms(11_000)
    await old.act()
    assert made_s(world) == [2, 4, 6, 8, 10]
    await new.read()
    await new.act()
    # The tenth second is both rules', and has its task.
    assert made_s(world) == [2, 4, 6, 8, 10, 5]


async def test_a_lost_request_is_sent_again() -> None:
    world = await begun(every_ms=10_000)
    await world.seats[0].read()
    world.clock.pass_ms(25_000)
    world.log.trouble = "request"
    await world.seats[0].act()
    assert made_s(world) == [10, 20]


async def test_while_the_log_is_full_nothing_is_made_and_then_what_is_late() -> None:
    world = await begun(every_ms=10_000)
    [seat] = world.seats
    await seat.read()
    world.clock.pass_ms(15_000)
    world.room.is_full = True
    assert await seat.scheduler.make_owed()
    assert made_s(world) == []
    world.room.is_full = False
    world.clock.pass_ms(60_000)
    await seat.act()
    assert made_s(world) == [20, 30, 40, 50, 60, 70]


async def test_it_looks_at_the_clock_when_something_comes_and_every_few_seconds() -> None:
    world = await begun(every_ms=3_000)
    [seat] = world.seats
    assert seat.scheduler.look_at() == T0 + LOOK
    await seat.read()
    assert seat.scheduler.look_at() == at(3)
    await change_schedule(world.fleet, "s", "paused")
    await seat.read()
    assert seat.scheduler.look_at() == T0 + LOOK


async def test_setting_the_same_again_changes_nothing() -> None:
    world = World(0)
    first, has_changed = await set_schedule(world.fleet, "s", wanted(every_ms=5_000), actor="ann")
    assert (has_changed, first.actor, first.set_at) == (True, "ann", T0)
    again, has_changed = await set_schedule(
        world.fleet, "s", wanted(every_ms=5_000), is_replacing=True
    )
    assert (has_changed, again) == (False, first)


@pytest.mark.parametrize(
    "other",
    [
        {"every_ms": 6_000},
        {"every_ms": 5_000, "overlap": "skip"},
        {"every_ms": 5_000, "spec": TaskSpec(handler="i")},
        {"every_ms": 5_000, "spec": TaskSpec(handler="h", priority="high")},
        {"cron": "* * * * *"},
    ],
)
async def test_another_one_of_the_name_must_be_meant(other: dict[str, Any]) -> None:
    world = World(0)
    await set_schedule(world.fleet, "s", wanted(every_ms=5_000))
    with pytest.raises(ScheduleExists, match="--replace"):
        await set_schedule(world.fleet, "s", wanted(**other))
    schedule, has_changed = await set_schedule(world.fleet, "s", wanted(**other), is_replacing=True)
    assert has_changed
    assert schedule.version == 2


async def test_pausing_again_keeps_the_first_word() -> None:
    world = await begun(0, every_ms=5_000)
    assert (await change_schedule(world.fleet, "s", "resumed"))[1] is False
    await change_schedule(world.fleet, "s", "paused", actor="ann", reason="too hot")
    schedule, has_changed = await change_schedule(world.fleet, "s", "paused", actor="bob")
    assert (has_changed, schedule.status, schedule.actor) == (False, "paused", "ann")


async def test_what_is_not_there_cant_be_changed() -> None:
    world = World(0)
    with pytest.raises(ScheduleNotFound, match="there is no schedule s"):
        await change_schedule(world.fleet, "s", "paused")
    await set_schedule(world.fleet, "s", wanted(every_ms=5_000))
    assert (await change_schedule(world.fleet, "s", "removed"))[1]
    assert not (await change_schedule(world.fleet, "s", "removed"))[1]
    with pytest.raises(ScheduleNotFound):
        await change_schedule(world.fleet, "s", "resumed")
    assert (await load_schedule(world.log, "s")).status == "removed"
    assert {name: each.status for name, each in (await read_schedules(world.log)).items()} == {
        "s": "removed"
    }
    await set_schedule(world.fleet, "s", wanted(every_ms=6_000))


async def test_large_arguments_stand_in_the_object_store() -> None:
    args = b'{"text": "' + b"x" * INLINE_MAX_BYTES + b'"}'
    spec = TaskSpec(handler="h", args=type(SPEC.args)(args))
    world = await begun(spec=spec, every_ms=10_000)
    await set_schedule(world.fleet, "s", wanted(spec=spec, every_ms=10_000))
    world.clock.pass_ms(10_000)
    await world.seats[0].read()
    await world.seats[0].act()
    rule, task = (record.event for record in world.records())
    assert isinstance(rule, ScheduleSet)
    assert isinstance(task, TaskQueued)
    assert task.spec.args_ref == rule.spec.args_ref
    assert rule.spec.args_ref is not None
    assert await world.fleet.objects.get(rule.spec.args_ref) == args


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        ({"spec": TaskSpec(handler="h", key="k")}, "can't have a key"),
        ({"spec": TaskSpec(handler="h", after=("t1",))}, "can't wait for other tasks"),
        ({"spec": TaskSpec(handler="h", continues="b")}, "nor belong to a fan-out"),
        ({"spec": TaskSpec(handler="h", schedule="other")}, "nor belong to"),
        ({"spec": TaskSpec(handler="")}, "handler"),
        ({"every_ms": 10}, "every must be at least 1s"),
    ],
)
async def test_what_no_schedule_can_be_is_refused(refused: dict[str, Any], says: str) -> None:
    world = World(0)
    with pytest.raises(InvalidInput, match=says):
        await set_schedule(world.fleet, "s", wanted(**{"every_ms": 5_000, **refused}))
    with pytest.raises(InvalidInput, match="schedule"):
        await set_schedule(world.fleet, "a b", wanted(every_ms=5_000))
    assert world.records() == []
