"""Logs about fan-outs: what they name, how they end, and what waits for them."""

from __future__ import annotations

import json

from simulation.cases.case import Case, bad
from simulation.invariants import Tolerance
from simulation.writing import Fields, Log, member, plan_of

LATE_PLAN = plan_of("b", 2, deadline_ms=1000)


def make(log: Log, plan: Fields, barrier_id: str = "b") -> None:
    """Members and continuation, as an honest writer does it."""
    for each in plan["members"]:
        log.queued(each["task_id"], each["spec"], cause=barrier_id)
    if then := plan.get("then"):
        log.held(then["task_id"], then["spec"], cause=barrier_id)


def end(log: Log, task_id: str, verb: str = "completed", **fields: object) -> int:
    log.claimed(task_id)
    said = {"error_class": "permanent"} if verb == "failed" else {}
    return log.ended(verb, task_id, **(said | fields))


def ready(log: Log, plan: Fields, *verbs: str) -> tuple[int, list[int]]:
    """An open barrier of which some members have ended: where it was opened, and their outcomes."""
    opened = log.opened("b", plan)
    make(log, plan)
    ended = [end(log, f"b-{number}", verb) for number, verb in enumerate(verbs, 1)]
    return opened, ended


def all_of_it(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2), "completed", "failed")
    log.released("b", opened, ended, succeeded=1)
    log.queued("b-then")
    end(log, "b-then")


def through_a_task(log: Log) -> None:
    """A task fans out, and a member does; the outer barrier gets the last continuation's outcome."""
    log.queued("t")
    inner_plan = plan_of("t-1", 1)
    outer_plan = plan_of("t", 1)
    opened = end(log, "t", fan_out=outer_plan)
    make(log, outer_plan, "t")
    inner = end(log, "t-1", fan_out=inner_plan)
    make(log, inner_plan, "t-1")
    log.released("t-1", inner, [end(log, "t-1-1")])
    log.queued("t-1-then")
    log.released("t", opened, [end(log, "t-1-then")])
    log.queued("t-then")


def without_a_continuation(log: Log) -> None:
    """A member that fans out without a continuation is settled by its barrier's end."""
    plan = plan_of("b", 1)
    opened = log.opened("b", plan)
    make(log, plan)
    inner_plan = plan_of("b-1", 1, then=False)
    inner = end(log, "b-1", fan_out=inner_plan)
    make(log, inner_plan, "b-1")
    released = log.released("b-1", inner, [end(log, "b-1-1")])
    log.released("b", opened, [released])


def late(log: Log) -> None:
    """A member of others is still open at the deadline; the own one was cancelled."""
    log.queued("x")
    plan = plan_of("b", 1, deadline_ms=1000)
    plan["members"].append({"task_id": "x"})
    plan["count"] = 2
    opened = log.opened("b", plan)
    log.queued("b-1", plan["members"][0]["spec"], cause="b")
    log.wait(1000)
    ended = log.ended("cancelled", "b-1")
    log.released("b", opened, [ended, 0], succeeded=0)


def one_is_enough(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2, policy="any"), "completed")
    log.released("b", opened, [*ended, 0])


def two_are_enough(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 3, policy="quorum", quorum=2), "completed", "completed")
    log.released("b", opened, [*ended, 0])


def given_up(log: Log) -> None:
    ready(log, plan_of("b", 2, policy="all"), "failed")
    log.abandoned("b", "policy")
    log.ended("failed", "b-then", error_class="dependency")


def given_up_late(log: Log) -> None:
    ready(log, plan_of("b", 2, policy="all", deadline_ms=1000), "completed")
    log.wait(1000)
    log.ended("cancelled", "b-2")
    log.abandoned("b", "policy")


def with_a_missing_member(log: Log) -> None:
    plan = plan_of("b", 0, then=False)
    plan |= {"members": [{"task_id": "gone"}], "count": 1}
    opened = log.opened("b", plan)
    log.released("b", opened, [0], settled=1, succeeded=0)


MANY = [member("b", 1), member("b", 2)]
OBJECTS = {"s1": json.dumps(MANY).encode(), "s2": b"[5, 7]"}


def stored(log: Log) -> None:
    """Members and outcomes that are too large for events stand elsewhere."""
    plan = {"count": 2, "members_ref": {"sha256": "s1", "size": 1}}
    opened = log.opened("b", plan)
    make(log, {"members": MANY})
    end(log, "b-1")
    end(log, "b-2")
    ref = {"sha256": "s2", "size": 1}
    fields = {"expected": 2, "settled": 2, "succeeded": 2, "outcomes_ref": ref}
    log.released("b", opened, [], **fields)


def stored_and_lost(log: Log) -> None:
    plan = {"count": 2, "members_ref": {"sha256": "s9", "size": 1}}
    log.opened("b", plan)
    log.abandoned("b", "policy", "its members are not known: gone")


def stored_and_wrong(log: Log) -> None:
    stored(log)
    last = log.messages[-1]
    log.messages[-1] = last._replace(data=last.data.replace(b'"succeeded": 2', b'"succeeded": 1'))


# What is wrong with plans.


def opened_with(**changes: object) -> Fields:
    return plan_of("b", 2) | changes


def counted_wrong(log: Log) -> None:
    log.opened("b", opened_with(count=3))


def named_twice(log: Log) -> None:
    log.opened("b", opened_with(members=[member("b", 1), member("b", 1)]))


def named_as_another_ones(log: Log) -> None:
    log.opened("b", opened_with(members=[member("b", 1), member("c", 2)]))


def with_no_such_policy(log: Log) -> None:
    log.opened("b", opened_with(policy="most"))


def with_a_quorum_too_large(log: Log) -> None:
    log.opened("b", opened_with(policy="quorum", quorum=3))


def with_another_continuation(log: Log) -> None:
    log.opened("b", opened_with(then={"task_id": "x", "spec": {"continues": "b"}}))


def opened_twice(log: Log) -> None:
    log.opened("b", plan_of("b", 2))
    log.opened("b", plan_of("b", 2))


# What is wrong with ends.


def released_twice(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 1), "completed")
    log.released("b", opened, ended)
    log.released("b", opened, ended)


def released_and_abandoned(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 1), "completed")
    log.released("b", opened, ended)
    log.abandoned("b", "cancelled")


def released_unopened(log: Log) -> None:
    log.released("b", 1, [])


def released_unopened_then_opened(log: Log) -> None:
    released_unopened(log)
    all_of_it(log)


def released_unopened_that_lost_nothing(log: Log) -> None:
    log.released("c", 1, [])


def released_early(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2), "completed")
    log.released("b", opened, [*ended, 0])


def released_before_its_deadline(log: Log) -> None:
    opened, ended = ready(log, LATE_PLAN, "completed")
    log.wait(999)
    log.released("b", opened, [*ended, 0])


def released_without_success(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2, policy="any"), "failed", "failed")
    log.released("b", opened, ended, succeeded=0)


def released_below_its_quorum(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 3, policy="quorum", quorum=2), "completed")
    log.released("b", opened, [*ended, 0, 0])


def released_with_other_outcomes(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2), "completed", "completed")
    log.released("b", opened, ended[::-1])


def released_with_other_counts(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2), "completed", "failed")
    log.released("b", opened, ended)


def released_with_too_many_settled(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2, policy="any"), "completed")
    log.released("b", opened, [*ended, 0], settled=2)


def released_before_an_inner_barrier(log: Log) -> None:
    plan = plan_of("b", 1)
    opened = log.opened("b", plan)
    make(log, plan)
    inner = end(log, "b-1", fan_out=plan_of("b-1", 1, then=False))
    log.released("b", opened, [inner])


def released_with_too_few(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 2), "completed", "completed")
    log.released("b", opened, ended[:1])


def released_from_elsewhere(log: Log) -> None:
    opened, ended = ready(log, plan_of("b", 1), "completed")
    log.released("b", opened + 1, ended)


def released_late_without_its_own(log: Log) -> None:
    opened, ended = ready(log, LATE_PLAN, "completed")
    log.wait(1000)
    log.released("b", opened, [*ended, 0])


def released_late_without_one_in_time(log: Log) -> None:
    log.queued("x")
    plan = plan_of("b", 0, deadline_ms=1000, then=False)
    plan |= {"members": [{"task_id": "x"}], "count": 1}
    opened = log.opened("b", plan)
    end(log, "x")
    log.wait(1000)
    log.released("b", opened, [0])


def released_late_without_what_one_led_to(log: Log) -> None:
    log.queued("x")
    inner_plan = plan_of("x", 0, then=False)
    log.released("x", end(log, "x", fan_out=inner_plan), [])
    plan = plan_of("b", 0, deadline_ms=1000, then=False)
    plan |= {"members": [{"task_id": "x"}], "count": 1}
    opened = log.opened("b", plan)
    log.wait(1000)
    log.released("b", opened, [0])


def abandoned_with_hope(log: Log) -> None:
    ready(log, plan_of("b", 2, policy="any"), "failed")
    log.abandoned("b", "policy")


def abandoned_with_an_open_parent(log: Log) -> None:
    log.queued("p")
    log.opened("b", plan_of("b", 1), "p")
    log.abandoned("b", "parent")


def abandoned_for_no_reason(log: Log) -> None:
    log.opened("b", plan_of("b", 1))
    log.abandoned("b", "weather")


def abandoned_with_too_many(log: Log) -> None:
    log.opened("b", plan_of("b", 2))
    log.add("barrier.b", "abandoned", why="cancelled", error="no", settled=1)


def abandoned_with_its_parent(log: Log) -> None:
    log.queued("p")
    log.opened("b", plan_of("b", 1), "p")
    log.ended("cancelled", "p")
    log.abandoned("b", "parent")


def unwanted(log: Log) -> int:
    log.queued("t")
    log.claimed("t")
    log.cancel_requested("t")
    return log.ended("completed", "t", fan_out=plan_of("t", 0))


def unwanted_and_abandoned(log: Log) -> None:
    unwanted(log)
    log.abandoned("t", "cancelled")


def unwanted_and_released(log: Log) -> None:
    log.released("t", unwanted(log), [])


CASES = [
    Case(
        "barrier.plan",
        (all_of_it, through_a_task),
        (
            *(counted_wrong, named_twice, named_as_another_ones, with_no_such_policy),
            *(with_a_quorum_too_large, with_another_continuation, opened_twice),
        ),
    ),
    Case(
        "barrier.one_ending",
        (all_of_it, given_up),
        (released_twice, released_and_abandoned, released_unopened),
    ),
    Case(
        "barrier.one_ending",
        (released_unopened, released_unopened_then_opened),
        (released_unopened_that_lost_nothing,),
        tolerance=Tolerance(bereft=frozenset({"b"})),
    ),
    Case(
        "barrier.policy",
        (all_of_it, one_is_enough, two_are_enough, late),
        (
            *(released_early, released_before_its_deadline, released_without_success),
            released_below_its_quorum,
        ),
    ),
    Case(
        "barrier.outcomes",
        (all_of_it, through_a_task, without_a_continuation, late, with_a_missing_member),
        (
            bad(released_with_other_outcomes, "barrier.policy"),
            *(released_with_other_counts, released_from_elsewhere, released_with_too_many_settled),
            bad(released_before_an_inner_barrier, "barrier.policy"),
            *(released_late_without_its_own, released_late_without_one_in_time),
            released_late_without_what_one_led_to,
            bad(released_with_too_few, "barrier.policy"),
        ),
    ),
    Case("barrier.outcomes", (stored, stored_and_lost), (stored_and_wrong,), objects=OBJECTS),
    Case(
        "barrier.abandoned",
        (given_up, given_up_late, abandoned_with_its_parent),
        (
            abandoned_with_hope,
            abandoned_with_an_open_parent,
            abandoned_for_no_reason,
            abandoned_with_too_many,
        ),
    ),
    Case("cancel.tree", (unwanted_and_abandoned,), (unwanted_and_released,)),
]
