"""Barriers and gates in a small world: who writes, who dies, who acts on old news is set by each test."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.join_world import World, kept_by

from fleetlog.bus import joining
from fleetlog.bus.core import Submit, Task, agenda, joins
from fleetlog.bus.core.join import Abandon, LookAt, ReadOn, Release
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierOpened,
    BarrierReleased,
    TaskQueued,
    TerminalEvent,
)
from fleetlog.schemas.fan_outs import Member, plan_fan_out
from fleetlog.schemas.specs import TaskSpec, payload_digest

H = TaskSpec(handler="h")
THEN = TaskSpec(handler="then")


@pytest.fixture
def world() -> World:
    return World()


async def opened(
    world: World, members: list[Any], *, made: int = 99, is_large: bool = False, **fields: Any
) -> str:
    barrier_id = world.new_id("b")
    parent = fields.pop("parent", None)
    plan = plan_fan_out(barrier_id, members, **fields)
    await world.open(plan, barrier_id, made=made, is_large=is_large, parent=parent)
    return barrier_id


async def work(world: World, rounds: int = 6, seat: int = 0, *, pass_ms: int = 0) -> None:
    """One coordinator does all that is owed."""
    one = world.seats[seat]
    for _ in range(rounds):
        await one.read()
        one.plan()
        while one.waiting:
            await one.do()
        await one.read()
        await one.act()
        world.clock.pass_ms(pass_ms)


async def run(world: World, *task_ids: str, how: str = "complete") -> None:
    for task_id in task_ids:
        await world.claim(world.tasks()[task_id])
        await world.finish(world.tasks()[task_id], how=how)


def states(world: World, *task_ids: str) -> list[str]:
    tasks = world.tasks()
    return [tasks[each].status if each in tasks else "absent" for each in task_ids]


def events(world: World, kind: type[Any], thing_id: str | None = None) -> list[Any]:
    return [
        record.event
        for record in world.records()
        if isinstance(record.event, kind)
        and (thing_id is None or (record.subject and record.subject.id == thing_id))
    ]


def is_empty(world: World, seat: int = 0) -> bool:
    return not any(kept_by(world.seats[seat].fold.joins).values())


async def test_a_release_that_had_to_wait_is_no_second_one(world: World) -> None:
    """The other coordinator releases while this one's act is on its way, and its fold hears of it."""
    b = await opened(world, [H], then=THEN)
    await run(world, f"{b}-1")
    slow = world.seats[1]
    await slow.read()
    slow.plan()
    assert [type(act) for act in slow.waiting] == [Release]
    await work(world)
    await slow.read()
    await slow.do()
    assert len(events(world, BarrierReleased)) == 1
    assert states(world, f"{b}-then") == ["queued"]


async def test_an_end_that_had_to_wait_is_no_second_one(world: World) -> None:
    b = await opened(world, [H, H], then=THEN, policy="all")
    await run(world, f"{b}-1", how="fail")
    slow = world.seats[1]
    await slow.read()
    slow.plan()
    assert [type(act) for act in slow.waiting] == [Abandon]
    await work(world)
    await slow.read()
    await slow.do()
    assert len(events(world, BarrierAbandoned)) == 1
    assert states(world, f"{b}-2", f"{b}-then") == ["cancelled", "failed"]


async def test_a_deadline_outlives_a_restart(world: World) -> None:
    b = await opened(world, [H, H], then=THEN, deadline_ms=5_000)
    seat = world.seats[0]
    await run(world, f"{b}-1")
    await work(world)
    await seat.save()
    await seat.restore()
    await work(world)
    assert seat.fold.joins.next_at() is not None
    world.clock.pass_ms(5_000)
    await work(world)
    [released] = events(world, BarrierReleased)
    assert (released.settled, released.succeeded) == (2, 1)
    assert states(world, f"{b}-2", f"{b}-then") == ["cancelled", "queued"]


async def test_after_the_deadline_the_policy_decides(world: World) -> None:
    there = await world.submit(H)
    b = await opened(world, [H, there], then=THEN, policy="all", deadline_ms=1_000)
    await run(world, f"{b}-1")
    world.clock.pass_ms(1_000)
    await work(world)
    # What it did not make it does not end.
    assert states(world, there, f"{b}-then") == ["queued", "failed"]
    assert "its deadline passed" in events(world, BarrierAbandoned)[0].error


async def test_where_a_continuation_is_a_member_too_both_slots_are_settled(world: World) -> None:
    top = await world.submit(H)
    await world.claim(world.tasks()[top])
    plan = plan_fan_out(top, [H], then=THEN, parent_id=top)
    first = await world.submit(TaskSpec(handler="h", after=(top,)))
    b = await opened(world, [top, H], then=THEN)
    await world.spread(world.tasks()[top], plan, made=99, is_large=False)
    both = await opened(world, [top, f"{top}-then"], then=THEN)
    await work(world)
    await run(world, f"{b}-2", f"{top}-1")
    await work(world)
    await run(world, f"{top}-then")
    await work(world, pass_ms=500)
    assert states(world, first, f"{b}-then", f"{both}-then") == ["queued"] * 3
    released = events(world, BarrierReleased, both)[0]
    assert released.outcomes[0] == released.outcomes[1] > 0


async def test_members_are_taken_once_however_often_they_are_given(world: World) -> None:
    await opened(world, [H, H], is_large=True)
    seat = world.seats[0]
    await seat.read()
    seat.plan()
    seat.waiting *= 2
    await seat.do()
    await run(world, "b1-1")
    await seat.read()
    await seat.do()
    [join] = seat.fold.joins.joins.values()
    assert (join.settled, len(join.open)) == (1, 1)


async def test_members_that_settled_before_they_were_read_are_looked_at(world: World) -> None:
    b = await opened(world, [H, H, H], is_large=True, then=THEN)
    seat = world.seats[0]
    await run(world, f"{b}-1")
    await seat.read()
    await seat.save()
    seat.plan()
    await seat.do()
    assert any(isinstance(act, LookAt) for act in seat.fold.joins.acts(world.clock.at, 10))
    # A restart between the look and its answer.
    await seat.save()
    await seat.restore()
    await run(world, f"{b}-2", f"{b}-3")
    await work(world, pass_ms=500)
    assert states(world, f"{b}-then") == ["queued"]


async def test_a_fan_out_whose_members_are_lost_is_given_up_once(world: World) -> None:
    b = await opened(world, [H, H], is_large=True, then=THEN, made=1)
    world.lose(0)
    await work(world, pass_ms=500)
    [abandoned] = events(world, BarrierAbandoned)
    assert "members are not known" in abandoned.error
    assert states(world, f"{b}-1", f"{b}-then") == ["cancelled", "failed"]
    assert is_empty(world)
    assert world.seats[0].fold.violation_count == 0


async def test_a_continuation_with_a_delay_is_queued_when_its_time_has_come(world: World) -> None:
    b = await opened(world, [H], then=TaskSpec(handler="then", delay_ms=3_000))
    await run(world, f"{b}-1")
    await work(world)
    assert states(world, f"{b}-then") == ["held"]
    assert world.seats[0].fold.joins.next_at() is not None
    world.clock.pass_ms(3_000)
    await work(world)
    assert states(world, f"{b}-then") == ["queued"]


async def test_an_act_that_is_refused_comes_again(world: World) -> None:
    """The clock by which it was decided was ahead."""
    b = await opened(world, [H], then=TaskSpec(handler="then", delay_ms=3_000))
    await run(world, f"{b}-1")
    await work(world)
    seat = world.seats[0]
    world.clock.pass_ms(3_000)
    seat.plan()
    world.clock.pass_ms(-1_000)
    await seat.do()
    assert states(world, f"{b}-then") == ["held"]
    world.clock.pass_ms(1_000)
    await work(world)
    assert states(world, f"{b}-then") == ["queued"]


async def test_a_standby_lets_go_of_what_is_over(world: World) -> None:
    for policy in ("settled", "all", "any"):
        b = await opened(world, [H, H], then=THEN, policy=policy)
        await run(world, f"{b}-1", f"{b}-2", how="fail" if policy == "all" else "complete")
        gate = await world.submit(TaskSpec(handler="h", after=(f"{b}-1",)))
        await work(world)
        if policy != "all":
            await run(world, f"{b}-then", gate)
    await world.seats[1].read()
    assert is_empty(world, seat=1)
    await work(world)
    assert is_empty(world)


async def test_a_member_that_comes_after_its_barrier_was_given_up_is_cancelled(
    world: World,
) -> None:
    """Its writer was away for a while."""
    b = await opened(world, [H, H], then=THEN, made=0)
    await world.abandon(b)
    await work(world, pass_ms=500)
    assert is_empty(world)
    assert states(world, f"{b}-1", f"{b}-then") == ["absent", "cancelled"]
    await world.go_on(0)
    await work(world, rounds=1)
    await world.seats[0].save()
    await world.seats[0].restore()
    await work(world)
    assert states(world, f"{b}-1", f"{b}-2") == ["cancelled"] * 2
    assert is_empty(world)


async def test_a_member_that_comes_before_its_ended_barrier_is_let_go_is_cancelled(
    world: World,
) -> None:
    b = await opened(world, [H, H], made=1)
    await world.claim(world.tasks()[f"{b}-1"])
    await world.abandon(b)
    await work(world)
    await world.go_on(0)
    await work(world)
    assert states(world, f"{b}-1", f"{b}-2") == ["claimed", "cancelled"]
    assert world.tasks()[f"{b}-1"].is_cancel_requested
    assert not is_empty(world)
    await world.finish(world.tasks()[f"{b}-1"], how="obey")
    await work(world)
    assert is_empty(world)


async def test_late_members_of_a_task_that_fanned_out_are_cancelled_too(world: World) -> None:
    top = await world.submit(H)
    await world.claim(world.tasks()[top])
    plan = plan_fan_out(top, [H, H], policy="any")
    await world.spread(world.tasks()[top], plan, made=1, is_large=False)
    await run(world, f"{top}-1")
    await work(world)
    assert is_empty(world)
    await world.go_on(0)
    assert states(world, f"{top}-2") == ["queued"]
    await work(world)
    assert states(world, f"{top}-2") == ["cancelled"]


async def test_stragglers_that_go_on_are_made_and_left_alone(world: World) -> None:
    b = await opened(world, [H, H, H], policy="any", stragglers="wait", made=1)
    await run(world, f"{b}-1")
    await work(world)
    assert states(world, f"{b}-2") == ["absent"]
    world.clock.pass_ms(1_000)
    await work(world)
    assert states(world, f"{b}-2", f"{b}-3") == ["queued"] * 2
    assert is_empty(world)
    # What it made and is still there after a restart is looked into once, and left.
    await world.seats[0].save()
    await world.seats[0].restore()
    await work(world)
    assert states(world, f"{b}-2", f"{b}-3") == ["queued"] * 2
    assert is_empty(world)


async def test_a_revived_continuation_follows_its_barriers_end(world: World) -> None:
    released = await opened(world, [H], then=THEN)
    await run(world, f"{released}-1")
    failed = await opened(world, [H], then=THEN, policy="all")
    await run(world, f"{failed}-1", how="fail")
    await work(world)
    await run(world, f"{released}-then", how="fail")
    await work(world)
    assert is_empty(world)
    revived = [
        await world.submit(TaskSpec(handler="then", continues=b)) for b in (released, failed, "no")
    ]
    gone = await world.submit(TaskSpec(handler="then", continues="nobody"))
    await world.seats[0].read()
    await world.cancel(world.tasks()[gone])
    await work(world)
    # Of a barrier that the log has lost nobody will ever hear.
    assert states(world, *revived) == ["queued", "failed", "failed"]
    assert len(events(world, TaskQueued, f"{released}-then")) == 1
    waits = await opened(world, [H], then=THEN)
    early = await world.submit(TaskSpec(handler="then", continues=waits))
    await work(world)
    assert states(world, early) == ["held"]
    await run(world, f"{waits}-1")
    await work(world)
    assert states(world, early, f"{waits}-then") == ["queued"] * 2
    assert is_empty(world)


@pytest.mark.parametrize("has_old_end", [False, True])
async def test_a_continuation_waits_while_the_task_that_it_continues_may_yet_fan_out(
    world: World, has_old_end: bool
) -> None:
    """Seed 5387, made shorter: the server had lost the fan-out, and what it named came after the loss."""
    tops = [await world.submit(H) for _ in range(3)]
    for top in tops[: 3 * has_old_end]:
        await world.abandon(top)
    heirs = [await world.submit(TaskSpec(handler="then", continues=top)) for top in tops]
    await work(world)
    assert states(world, *heirs) == ["held"] * 3
    for top in tops:
        await world.claim(world.tasks()[top])
    await world.finish(world.tasks()[tops[0]], how="complete")
    await world.finish(world.tasks()[tops[1]], how="fail")
    plan = plan_fan_out(tops[2], [H], parent_id=tops[2])
    await world.spread(world.tasks()[tops[2]], plan, made=99, is_large=False)
    await work(world)
    assert states(world, *heirs) == ["failed", "failed", "held"]
    await run(world, f"{tops[2]}-1")
    await work(world)
    assert states(world, *heirs) == ["failed", "failed", "queued"]
    assert is_empty(world)


@pytest.mark.parametrize("has_old_end", [False, True])
@pytest.mark.parametrize("is_large", [False, True])
async def test_members_and_a_continuation_that_were_there_before_their_barrier_are_its_own(
    world: World, is_large: bool, has_old_end: bool
) -> None:
    top = await world.submit(H)
    if has_old_end:
        await world.abandon(top)
    plan = plan_fan_out(top, [H, H], then=THEN, parent_id=top)
    await world.make(top, plan, 99)
    await work(world)
    assert states(world, f"{top}-1", f"{top}-then") == ["queued", "held"]
    await world.claim(world.tasks()[top])
    await world.spread(world.tasks()[top], plan, made=0, is_large=is_large)
    await run(world, f"{top}-1", f"{top}-2")
    await work(world)
    assert states(world, f"{top}-then") == ["queued"]
    assert len(events(world, BarrierReleased)) == 1
    assert is_empty(world)


async def test_a_barrier_whose_id_has_an_end_from_before_its_beginning_ends_behind_it(
    world: World,
) -> None:
    """Seed 5387: the end was under way when the server lost its last second, and with it the beginning."""
    tops = [await world.submit(H) for _ in range(2)]
    for top in tops:
        await world.abandon(top)
        await world.claim(world.tasks()[top])
        plan = plan_fan_out(top, [H], then=THEN, policy="all", parent_id=top)
        await world.spread(world.tasks()[top], plan, made=99, is_large=False)
    await run(world, f"{tops[0]}-1")
    await run(world, f"{tops[1]}-1", how="fail")
    await work(world)
    assert len(events(world, BarrierReleased, tops[0])) == 1
    assert len(events(world, BarrierAbandoned, tops[1])) == 2
    assert states(world, f"{tops[0]}-then", f"{tops[1]}-then") == ["queued", "failed"]
    assert is_empty(world)


async def test_whoever_cancels_a_task_means_what_it_leads_to(world: World) -> None:
    top = await world.submit(H)
    await world.claim(world.tasks()[top])
    await world.cancel(world.tasks()[top])
    plan = plan_fan_out(top, [H, H], then=THEN, parent_id=top)
    await world.spread(world.tasks()[top], plan, made=99, is_large=False)
    await work(world)
    assert states(world, top, f"{top}-1", f"{top}-then") == ["completed", "cancelled", "cancelled"]


async def test_a_barrier_ends_with_what_it_is_part_of(world: World) -> None:
    b = await opened(world, [H, H])
    for each in (f"{b}-1", f"{b}-2"):
        await world.claim(world.tasks()[each])
        plan = plan_fan_out(each, [H], then=THEN if each == f"{b}-1" else None, parent_id=each)
        await world.spread(world.tasks()[each], plan, made=99, is_large=False)
    await work(world)
    await world.abandon(b)
    await work(world)
    assert states(world, f"{b}-1-1", f"{b}-2-1", f"{b}-1-then") == ["cancelled"] * 3
    assert len(events(world, BarrierAbandoned)) == 3


async def test_a_barrier_ends_with_the_task_that_waits_for_it(world: World) -> None:
    parent = await world.submit(H)
    b = await opened(world, [H], parent=parent, stragglers="wait")
    await work(world)
    assert events(world, BarrierAbandoned) == []
    await run(world, parent)
    await work(world)
    assert events(world, BarrierAbandoned)[0].why == "parent"
    assert states(world, f"{b}-1") == ["cancelled"]


async def test_a_member_by_key_that_another_fan_out_made_is_looked_at(world: World) -> None:
    keyed = TaskSpec(handler="h", key="k")
    first = await opened(world, [keyed])
    task_id = world.tasks().popitem()[0]
    await run(world, task_id)
    await work(world)
    again = await opened(world, [keyed, "nobody"], then=THEN, made=0)
    await work(world, pass_ms=500)
    assert [e.succeeded for e in events(world, BarrierReleased, first)] == [1]
    released = events(world, BarrierReleased, again)[0]
    assert (released.succeeded, released.outcomes[1]) == (1, 0)


async def test_what_a_task_led_to_long_ago_is_followed_through_the_log(world: World) -> None:
    tops = [await world.submit(H) for _ in range(2)]
    for top, then in zip(tops, (THEN, None), strict=True):
        await world.claim(world.tasks()[top])
        plan = plan_fan_out(top, [H], then=then, parent_id=top, policy="all")
        await world.spread(world.tasks()[top], plan, made=99, is_large=False)
        await run(world, f"{top}-1", how="complete" if then else "fail")
    await work(world)
    await run(world, f"{tops[0]}-then")
    await work(world)
    gate = await world.submit(TaskSpec(handler="h", after=(tops[0],)))
    b = await opened(world, tops, then=THEN)
    await work(world, pass_ms=500)
    assert states(world, gate, f"{b}-then") == ["queued"] * 2
    released = events(world, BarrierReleased, b)[0]
    assert (released.settled, released.succeeded) == (2, 1)


async def test_an_end_that_has_just_passed_is_looked_for(world: World) -> None:
    """The barrier is still there, as it cancels what it made; its own end has been."""
    tops = [await world.submit(H) for _ in range(2)]
    for top, then in zip(tops, (THEN, None), strict=True):
        await world.claim(world.tasks()[top])
        plan = plan_fan_out(top, [H, H], then=then, policy="any")
        await world.spread(world.tasks()[top], plan, made=99, is_large=False)
        await world.claim(world.tasks()[f"{top}-1"])
        await run(world, f"{top}-2")
    await work(world)
    await run(world, f"{tops[0]}-then")
    assert len(world.seats[0].fold.joins.joins) == 2
    b = await opened(world, tops, then=THEN)
    await work(world)
    assert states(world, f"{b}-then") == ["queued"]


async def test_what_is_looked_for_outlives_a_restart(world: World) -> None:
    top = await world.submit(H)
    await world.claim(world.tasks()[top])
    plan = plan_fan_out(top, [H], then=THEN)
    await world.spread(world.tasks()[top], plan, made=99, is_large=False)
    await run(world, f"{top}-1")
    await work(world)
    await run(world, f"{top}-then")
    b = await opened(world, [top, H], then=THEN)
    seat = world.seats[0]
    await seat.read()
    seat.plan()
    await seat.do()
    [join] = seat.fold.joins.joins.values()
    assert join.followers == {f"{top}-then"}
    await seat.save()
    await seat.restore()
    await run(world, f"{b}-2")
    await work(world)
    assert states(world, f"{b}-then") == ["queued"]


async def test_a_standby_lets_go_of_a_barrier_whose_stragglers_go_on(world: World) -> None:
    there = await world.submit(H)
    await run(world, there)
    b = await opened(world, [there, H, H], policy="all", stragglers="wait")
    await run(world, f"{b}-2", how="fail")
    await work(world)
    await world.seats[1].read()
    assert len(events(world, BarrierAbandoned)) == 1
    assert is_empty(world, seat=1)
    assert states(world, f"{b}-3") == ["queued"]


async def test_an_answer_that_comes_after_the_end_changes_nothing(world: World) -> None:
    b = await opened(world, [H], then=THEN)
    fold = world.seats[0].fold
    await world.seats[0].read()
    [join] = fold.joins.joins.values()
    await run(world, f"{b}-1")
    await work(world)
    fold.joins.note_continuation(join)
    assert fold.joins.acts(world.clock.at, 10) == []
    assert is_empty(world)


async def test_of_two_late_members_one_may_have_ended_before_anyone_looks(world: World) -> None:
    b = await opened(world, [H, H], made=0)
    await world.abandon(b)
    await work(world)
    await world.go_on(0)
    await world.seats[0].read()
    await world.cancel(world.tasks()[f"{b}-1"])
    await work(world)
    assert states(world, f"{b}-1", f"{b}-2") == ["cancelled"] * 2
    assert is_empty(world)


async def test_a_task_that_waits_for_a_barrier_may_fan_out_itself(world: World) -> None:
    parent = await world.submit(H)
    await world.claim(world.tasks()[parent])
    b = await opened(world, [H], parent=parent)
    await world.seats[0].read()
    plan = plan_fan_out(parent, [H], then=THEN)
    await world.spread(world.tasks()[parent], plan, made=99, is_large=False)
    await work(world)
    assert events(world, BarrierAbandoned, b)[0].why == "parent"
    assert states(world, f"{b}-1", f"{parent}-1") == ["cancelled", "queued"]


async def test_what_is_queued_and_proves_needless_is_not_done(world: World) -> None:
    await opened(world, [H, H, H, "nobody"], made=0, deadline_ms=1_000)
    world.clock.pass_ms(1_000)
    fold = world.seats[0].fold
    await world.seats[0].read()
    fold.joins.acts(world.clock.at, 1)
    [join] = fold.joins.joins.values()
    fold.joins.put_back(LookAt(join, "nobody", is_member=True))
    fold.joins.miss("nobody")
    assert len(fold.joins.acts(world.clock.at, 1)) == 1
    await world.go_on(0)
    await world.seats[0].read()
    assert [type(act) for act in fold.joins.acts(world.clock.at, 10)] == [ReadOn]
    await run(world, "b1-1")
    await world.seats[0].read()
    assert fold.joins.acts(world.clock.at, 10) == []


async def test_a_writer_that_is_slow_is_left_alone(world: World) -> None:
    b = await opened(world, [H, H, H], made=1)
    plan = plan_fan_out(b, [H, H, H])
    for count in (2, 3):
        world.clock.pass_ms(900)
        await work(world)
        assert len(world.tasks()) == count - 1
        await world.make(b, plan, count)
    seat = world.seats[0]
    await seat.read()
    assert [type(act) for act in seat.fold.joins.acts(world.clock.at, 10)] == []


async def test_a_gate_opens_when_its_delay_is_over_too(world: World) -> None:
    first = await world.submit(H)
    gate = await world.submit(TaskSpec(handler="h", after=(first,), delay_ms=2_000))
    await run(world, first)
    await work(world)
    assert states(world, gate) == ["held"]
    world.clock.pass_ms(2_000)
    await work(world)
    assert states(world, gate) == ["queued"]


async def test_no_more_acts_than_asked_for_and_none_forgotten(world: World) -> None:
    b = await opened(world, [H] * 7, then=THEN, made=0)
    world.clock.pass_ms(1_000)
    fold = world.seats[0].fold
    await world.seats[0].read()
    assert [len(fold.joins.acts(world.clock.at, 3)) for _ in range(4)] == [3, 3, 2, 0]
    assert states(world, f"{b}-1") == ["absent"]


async def test_what_could_not_be_done_comes_again(world: World) -> None:
    b = await opened(world, [H, H, "nobody"], then=THEN, made=0)
    world.clock.pass_ms(1_000)
    seat = world.seats[0]
    await seat.read()
    for _ in range(4):
        found = seat.fold.joins.acts(world.clock.at, 100)
        assert len(found) == 4
        for act in found:
            seat.fold.joins.put_back(act)
    await work(world)
    assert states(world, f"{b}-1", f"{b}-2", f"{b}-then") == ["queued", "queued", "held"]
    await world.abandon(b)
    await seat.read()
    for _ in range(3):
        found = seat.fold.joins.acts(world.clock.at, 100)
        assert len(found) == 3
        for act in found:
            seat.fold.joins.put_back(act)
    await work(world)
    for act in found:
        seat.fold.joins.put_back(act)
    assert is_empty(world)


async def test_a_look_back_that_failed_comes_again(world: World) -> None:
    b = await opened(world, [H], made=0)
    await world.abandon(b)
    await work(world)
    await world.go_on(0)
    seat = world.seats[0]
    await seat.read()
    [back] = seat.fold.joins.acts(world.clock.at, 100)
    assert seat.fold.joins.acts(world.clock.at, 100) == []
    seat.fold.joins.put_back(back)
    assert seat.fold.joins.acts(world.clock.at, 100) == [back]


async def test_what_a_foreign_writer_says_twice_is_not_allowed(world: World) -> None:
    b = await opened(world, [H], then=THEN)
    fold = world.seats[0].fold
    await world.seats[0].read()
    [record] = [r for r in world.records() if isinstance(r.event, BarrierOpened)]
    end = BarrierAbandoned(id="e", occurred_at=world.clock.at, why="policy", error="no")
    ended = type(record)(99, world.clock.at, record.subject, end)
    assert not fold.joins.take_barrier(b, record)
    assert fold.joins.take_barrier("gone", ended)
    assert fold.joins.take_barrier(b, ended)
    assert not fold.joins.take_barrier(b, ended)


async def test_a_continuation_whose_id_was_taken_ends_its_barrier(world: World) -> None:
    taken = Submit(id="x", spec=H, digest=payload_digest(H))
    await world.tell(Task(id="x-then"), taken)
    await run(world, "x-then")
    await world.open(plan_fan_out("x", [H], then=THEN), "x", made=0, is_large=False, parent=None)
    world.clock.pass_ms(1_000)
    await work(world)
    [abandoned] = events(world, BarrierAbandoned)
    assert (abandoned.why, abandoned.error) == ("cancelled", "its continuation x-then has ended")
    assert is_empty(world)


async def test_a_task_whose_id_is_a_barriers_leaves_that_alone(world: World) -> None:
    b = await opened(world, [H], then=THEN)
    await world.tell(Task(id=b), Submit(id="x", spec=H, digest=payload_digest(H)))
    await world.claim(world.tasks()[b])
    await world.spread(world.tasks()[b], plan_fan_out(b, []), made=0, is_large=False)
    await run(world, f"{b}-1")
    await work(world)
    assert states(world, f"{b}-then") == ["queued"]


async def test_a_deadline_that_passes_after_the_end_changes_nothing(world: World) -> None:
    b = await opened(world, [H], deadline_ms=1_000)
    seat = world.seats[0]
    await seat.read()
    world.clock.pass_ms(1_000)
    seat.plan()
    await run(world, f"{b}-1")
    await work(world, seat=1)
    await seat.do()
    await work(world)
    assert len(events(world, BarrierReleased)) == 1
    assert is_empty(world)


async def test_where_many_outcomes_stand_their_release_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "INLINE_MAX_BYTES", 5)
    b = await opened(world, [H, H, H], then=THEN)
    await run(world, *(f"{b}-{n}" for n in (1, 2, 3)))
    await work(world)
    [released] = events(world, BarrierReleased)
    assert released.outcomes == ()
    assert len(msgspec.json.decode(await world.objects.get(released.outcomes_ref))) == 3


async def test_what_continues_something_that_never_opened_is_given_up(world: World) -> None:
    """Somebody wrote a barrier's end without its beginning."""
    await world.abandon("b")
    late = await world.submit(TaskSpec(handler="then", continues="b"))
    await work(world)
    assert states(world, late) == ["failed"]
    assert is_empty(world)


async def test_large_fan_outs_have_their_stragglers_made_after_their_end(world: World) -> None:
    there = await world.submit(H)
    await run(world, there)
    b = await opened(world, [there, H], policy="any", stragglers="wait", is_large=True, made=0)
    await work(world)
    seat = world.seats[0]
    assert len(events(world, BarrierReleased, b)) == 1
    seat.begin(Unsettled())
    await work(world, pass_ms=500)
    assert states(world, f"{b}-2") == ["queued"]
    assert is_empty(world)


async def test_alarms_of_a_standby_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "_STALE_MAX", 10)
    alarms = agenda.Alarms()
    world = World()
    for number in range(50):
        alarms.set(f"j{number}", world.clock.at)
        alarms.set(f"j{number}", world.clock.at)
        alarms.drop(f"j{number}")
    assert len(alarms._heap) <= 12
    assert alarms.next_at() is None
    assert list(alarms.ring(world.clock.at)) == []


async def test_the_first_that_did_not_complete_are_named(world: World) -> None:
    b = await opened(world, [H] * 8, policy="any", then=THEN)
    await run(world, *(f"{b}-{n}" for n in range(1, 9)), how="fail")
    await work(world)
    error = events(world, BarrierAbandoned)[0].error
    assert error.startswith(f"0 of 8 completed, too few for any: {b}-1 failed (error), ")
    assert error.endswith("and 3 more")
    assert joins.CULPRITS_MAX == 5


async def test_a_task_whose_first_events_cant_be_read_is_waited_for(world: World) -> None:
    """A newer version made it; its end will be understood."""
    b = await opened(world, ["strange", H], then=THEN)
    seat = world.seats[0]
    await seat.read()
    [join] = seat.fold.joins.joins.values()
    seat.fold.joins.find(join, "strange")
    seat.fold.joins.find(join, "strange")
    assert "strange" not in join.unseen
    assert "strange" in join.open
    assert states(world, f"{b}-then") == ["held"]


async def test_given_members_count_whatever_their_number_was_said_to_be(world: World) -> None:
    plan = plan_fan_out("x", [H], then=THEN)
    false = msgspec.structs.replace(plan, count=5)
    await world.open(false, "x", made=99, is_large=False, parent=None)
    await run(world, "x-1")
    await work(world)
    assert events(world, BarrierReleased)[0].outcomes != ()
    assert states(world, "x-then") == ["queued"]
    assert len(events(world, TerminalEvent)) == 1  # type: ignore[arg-type]  # a union
    assert Member("x-1").spec is None
    assert Unsettled().joins.next_at() is None


async def test_a_deadline_leaves_out_no_outcome_that_has_to_be_looked_up(world: World) -> None:
    there = await world.submit(H)
    await world.claim(world.tasks()[there])
    plan = plan_fan_out(there, [H], parent_id=there)
    await world.spread(world.tasks()[there], plan, made=99, is_large=False)
    await run(world, f"{there}-1")
    await work(world)
    await opened(world, [there], deadline_ms=1_000)
    # Nobody acts before the deadline, and who does then knows nothing of the member.
    world.clock.pass_ms(1_000)
    await work(world, seat=1)
    released = events(world, BarrierReleased)
    assert [each.settled for each in released] == [1, 1]
    assert released[1].succeeded == 1


async def test_a_deadline_does_not_wait_for_what_others_lead_to(world: World) -> None:
    there = await world.submit(H)
    await world.claim(world.tasks()[there])
    plan = plan_fan_out(there, [H], then=THEN, parent_id=there)
    # Its continuation is not even made.
    await world.spread(world.tasks()[there], plan, made=1, is_large=False)
    b = await opened(world, [there], deadline_ms=1_000)
    world.clock.pass_ms(1_000)
    await work(world)
    assert events(world, BarrierReleased, b)[0].outcomes == (0,)
