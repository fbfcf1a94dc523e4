"""Logs about what follows from fan-outs: their members, their continuations, and tasks behind others."""

from __future__ import annotations

from simulation.cases.barriers import all_of_it, end, ready, through_a_task
from simulation.cases.case import Case
from simulation.writing import Log, member, plan_of


def made_differently(log: Log) -> None:
    plan = plan_of("b", 1)
    log.opened("b", plan)
    log.queued("b-1", plan["members"][0]["spec"] | {"args": {"n": 1}}, cause="b")


def a_member_more(log: Log) -> None:
    log.opened("b", plan_of("b", 1))
    log.queued("b-2", member("b", 2)["spec"], cause="b")


def a_member_of_nothing(log: Log) -> None:
    log.queued("b-1", member("b", 1)["spec"], cause="b")


def revived(log: Log) -> None:
    plan = plan_of("b", 1)
    opened, ended = ready(log, plan, "failed")
    log.released("b", opened, ended, succeeded=0)
    log.queued("b-1-r1", plan["members"][0]["spec"], cause="b-1")
    log.queued("b-then")
    end(log, "b-then", "failed")
    log.held("b-then-r1", plan["then"]["spec"], cause="b-then")
    log.queued("b-then-r1")


def continued_early(log: Log) -> None:
    ready(log, plan_of("b", 2), "completed")
    log.queued("b-then")


def continued_after_all(log: Log) -> None:
    given_up_plan = plan_of("b", 1)
    ready(log, given_up_plan)
    log.abandoned("b", "cancelled")
    log.queued("b-then")


def continued_by_another(log: Log) -> None:
    plan = plan_of("b", 1)
    log.opened("b", plan)
    log.held("x", plan["then"]["spec"], cause="b")


def continued_differently(log: Log) -> None:
    plan = plan_of("b", 1)
    log.opened("b", plan)
    log.held("b-then", plan["then"]["spec"] | {"priority": "low"}, cause="b")


def after_others(log: Log) -> None:
    log.held("t", {"after": ["u", "v"]})
    log.ran("u")
    log.ran("v")
    log.queued("t")
    log.held("w", {"after": ["x"]})
    log.queued("x")
    end(log, "x", "failed")
    log.ended("failed", "w", error_class="dependency")
    log.held("y", {"after": ["nobody"]})
    log.ended("failed", "y", error_class="dependency")


def before_others(log: Log) -> None:
    log.held("t", {"after": ["u", "v"]})
    log.ran("u")
    log.queued("v")
    log.queued("t")


def after_a_failure(log: Log) -> None:
    log.held("t", {"after": ["u"]})
    log.queued("u")
    end(log, "u", "failed")
    log.queued("t")


def given_up_with_hope(log: Log) -> None:
    log.ran("u")
    log.held("t", {"after": ["u"]})
    log.ended("failed", "t", error_class="dependency")


def given_up_while_it_is_open(log: Log) -> None:
    ready(log, plan_of("b", 1))
    log.ended("failed", "b-then", error_class="dependency")


CASES = [
    Case(
        "barrier.members",
        (all_of_it, through_a_task, revived),
        (made_differently, a_member_more, a_member_of_nothing),
    ),
    Case(
        "barrier.continuation",
        (all_of_it, revived),
        (continued_early, continued_after_all, continued_by_another, continued_differently),
    ),
    Case(
        "gate.after",
        (after_others,),
        (before_others, after_a_failure, given_up_with_hope, given_up_while_it_is_open),
    ),
]
