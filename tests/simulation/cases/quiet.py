"""Logs of runs that came to rest, or should have."""

from __future__ import annotations

from simulation.cases import barriers, bounds
from simulation.cases.case import Case, bad
from simulation.invariants import Tolerance
from simulation.writing import Log, plan_of


def settled(log: Log) -> None:
    log.ran("t")
    barriers.all_of_it(log)


def waiting_for_the_allowed(log: Log) -> None:
    log.held("stays", {"fair_key": "f"})
    log.held("t", {"after": ["stays"]})
    plan = plan_of("b", 0)
    plan |= {"members": [{"task_id": "stays"}], "count": 1}
    log.opened("b", plan)
    log.held("b-then", plan["then"]["spec"], cause="b")


def left_on_offer(log: Log) -> None:
    log.queued("t")


def left_running(log: Log) -> None:
    log.queued("t")
    log.claimed("t")


def left_waiting(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")


def left_behind_what_ended(log: Log) -> None:
    log.ran("u")
    log.held("t", {"after": ["u"]})


def straggling(log: Log) -> None:
    log.queued("t", {"barrier_id": "b"})
    log.claimed("t")


def straggling_behind_what_is_there(log: Log) -> None:
    plan = plan_of("b", 1, then=False)
    log.opened("b", plan)
    barriers.make(log, plan)
    log.claimed("b-1")


def left_on_offer_behind_what_is_lost(log: Log) -> None:
    log.queued("t", {"barrier_id": "b"})


def never_released(log: Log) -> None:
    plan = plan_of("b", 1, then=False)
    log.opened("b", plan)
    barriers.make(log, plan)
    barriers.end(log, "b-1")


def never_given_up(log: Log) -> None:
    plan = plan_of("b", 1, then=False, policy="all")
    log.opened("b", plan)
    barriers.make(log, plan)
    barriers.end(log, "b-1", "failed")


def never_released_with_a_continuation(log: Log) -> None:
    plan = plan_of("b", 0)
    log.opened("b", plan)
    barriers.make(log, plan)


def open_after_its_deadline(log: Log) -> None:
    plan = plan_of("b", 1, then=False, deadline_ms=1000)
    plan |= {"members": [{"task_id": "stays"}]}
    log.queued("stays")
    log.opened("b", plan)
    log.wait(1000)
    log.started()


def open_without_its_continuation(log: Log) -> None:
    plan = plan_of("b", 1)
    plan |= {"members": [{"task_id": "stays"}]}
    log.queued("stays")
    log.opened("b", plan)
    log.held("b-then", plan["then"]["spec"], cause="b")
    log.ended("cancelled", "b-then")


def open_though_its_task_was_to_end(log: Log) -> None:
    log.queued("stays")
    log.queued("t")
    log.claimed("t")
    log.cancel_requested("t")
    plan = plan_of("t", 1, then=False) | {"members": [{"task_id": "stays"}]}
    log.ended("completed", "t", fan_out=plan)


def released_with_nobody_after(log: Log) -> None:
    log.released("b", log.opened("b", plan_of("b", 0)), [])


def released_with_members_left(log: Log) -> None:
    plan = plan_of("b", 2, then=False, policy="any", stragglers="wait")
    opened = log.opened("b", plan)
    log.queued("b-1", plan["members"][0]["spec"], cause="b")
    log.released("b", opened, [barriers.end(log, "b-1"), 0])


def abandoned_with_members_left(log: Log) -> None:
    plan = plan_of("b", 2, then=False, stragglers="wait")
    log.opened("b", plan)
    log.abandoned("b", "cancelled")


def released_with_a_straggler(log: Log) -> None:
    plan = plan_of("b", 1, then=False, policy="any")
    plan |= {"members": [*plan["members"], {"task_id": "stays"}], "count": 2}
    log.queued("stays")
    opened = log.opened("b", plan)
    log.queued("b-1", plan["members"][0]["spec"], cause="b")
    log.released("b", opened, [barriers.end(log, "b-1"), 0])


def a_straggler_that_goes_on(log: Log) -> None:
    plan = plan_of("stays", 2, then=False, policy="any")
    opened = log.opened("stays", plan)
    barriers.make(log, plan, "stays")
    log.released("stays", opened, [barriers.end(log, "stays-1"), 0])


def places_given_back(log: Log) -> None:
    log.limit("a", concurrency=1)
    bounds.let_in(log, "t")
    bounds.end(log, "t")


def a_place_kept(log: Log) -> None:
    bounds.let_in(log, "t")


def told_and_taken_back(log: Log) -> None:
    log.budget("x", budget=bounds.USED)
    log.held("stays", bounds.PAID)
    log.held("t", bounds.PAID)
    log.queued("stays")
    bounds.use(log, "t")
    log.exhausted("x", bounds.USD)
    log.held("stays")


def not_told(log: Log) -> None:
    log.budget("x", budget=bounds.USED)
    log.held("t", bounds.PAID)
    bounds.use(log, "t")


def not_taken_back(log: Log) -> None:
    told_and_taken_back(log)
    log.messages.pop()


def not_stopped(log: Log) -> None:
    log.budget("x", budget=bounds.USED | {"action": "stop"})
    log.held("stays", bounds.PAID)
    log.held("t", bounds.PAID)
    bounds.use(log, "t")
    log.exhausted("x", bounds.USD, action="stop")


def paused_and_taken_back(log: Log) -> None:
    log.held("stays", bounds.CLAUDE)
    log.queued("stays")
    bounds.pause(log)
    log.held("stays")


def paused_and_on_offer(log: Log) -> None:
    paused_and_taken_back(log)
    log.messages.pop()


CASES = [
    Case(
        "end.settled",
        (settled, waiting_for_the_allowed),
        (left_on_offer, left_running, left_waiting, left_behind_what_ended),
        is_quiet=True,
        allowed_open=("stays",),
    ),
    Case(
        "end.settled",
        (straggling,),
        (straggling_behind_what_is_there, left_on_offer_behind_what_is_lost),
        is_quiet=True,
        tolerance=Tolerance(bereft=frozenset({"b"})),
    ),
    Case(
        "end.barrier",
        (settled, waiting_for_the_allowed),
        (
            *(never_released, never_given_up, open_after_its_deadline),
            *(open_without_its_continuation, open_though_its_task_was_to_end),
            bad(never_released_with_a_continuation, "end.settled"),
        ),
        is_quiet=True,
        allowed_open=("stays",),
    ),
    Case("barrier.continuation", (settled,), (released_with_nobody_after,), is_quiet=True),
    Case(
        "barrier.members",
        (settled, abandoned_with_members_left),
        (released_with_members_left,),
        is_quiet=True,
    ),
    Case(
        "barrier.stragglers",
        (settled, released_with_a_straggler),
        (a_straggler_that_goes_on,),
        is_quiet=True,
        allowed_open=("stays", "stays-2"),
    ),
    Case("limit.leaked", (places_given_back,), (bad(a_place_kept, "end.settled"),), is_quiet=True),
    Case(
        "budget.told",
        (told_and_taken_back,),
        (not_told,),
        is_quiet=True,
        allowed_open=("stays",),
    ),
    Case(
        "budget.end",
        (told_and_taken_back,),
        (not_taken_back, not_stopped),
        is_quiet=True,
        allowed_open=("stays",),
    ),
    Case(
        "credential.paused",
        (paused_and_taken_back,),
        (paused_and_on_offer,),
        is_quiet=True,
        allowed_open=("stays",),
    ),
]
