"""Logs about schedules: instants, overlaps, and what they make."""

from __future__ import annotations

from simulation.cases.case import Case, bad
from simulation.invariants import Tolerance
from simulation.writing import Fields, Log

EVERY = {"every_ms": 10_000}
SKIP = EVERY | {"overlap": "skip"}
MADE: Fields = {"schedule": "s"}


def fire(log: Log, instant: str, rule: int = 1, spec: Fields | None = None) -> str:
    """The task of an instant of the first of January 2026, such as `000010`."""
    task_id = f"s-20260101T{instant}Z"
    log.queued(task_id, MADE if spec is None else spec, cause=f"e{rule}")
    return task_id


def finish(log: Log, task_id: str) -> None:
    log.claimed(task_id)
    log.ended("completed", task_id)


def said(log: Log, verb: str) -> int:
    return log.add("schedule.s", verb)


def on_time(log: Log) -> None:
    log.wait(300)
    log.schedule("s", **EVERY)
    log.wait(9_700)
    fire(log, "000010")
    log.wait(15_000)
    # Late is not missed.
    fire(log, "000020")


def in_milliseconds(log: Log) -> None:
    log.wait(300)
    log.schedule("s", every_ms=1_500)
    log.wait(3_000)
    fire(log, "000001800")
    fire(log, "000003300")


def of_an_old_rule(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(9_000)
    rule = log.schedule("s", every_ms=5_000)
    log.wait(2_000)
    # By a coordinator that had not read of it.
    fire(log, "000010")
    log.wait(8_000)
    fire(log, "000014", rule)


def paused_and_resumed(log: Log) -> None:
    log.schedule("s", **EVERY)
    said(log, "paused")
    log.wait(14_000)
    rule = log.schedule("s", **EVERY)
    log.wait(1_000)
    said(log, "resumed")
    log.wait(60_000)
    fire(log, "000024", rule)
    said(log, "removed")
    log.schedule("s", **EVERY)


def of_a_cron(log: Log) -> None:
    log.schedule("s", cron="*/5 0-2 * jan thu", zone="Europe/Berlin")
    log.wait(900_000)
    fire(log, "000500")
    fire(log, "001500")


def of_a_strange_cron(log: Log) -> None:
    log.schedule("s", cron="0 0 L * *")
    log.wait(60_000)
    fire(log, "000100")


def revived(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(10_000)
    task_id = fire(log, "000010")
    log.claimed(task_id)
    log.ended("failed", task_id, error_class="error")
    log.queued(f"{task_id}-r1", MADE, cause=task_id)


def of_no_schedule(log: Log) -> None:
    fire(log, "000010")


def of_no_rule(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(10_000)
    fire(log, "000010", 7)


def by_another_id(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(10_000)
    log.queued("t", MADE, cause="e1")


def of_a_schedule_that_lost_nothing(log: Log) -> None:
    log.queued("r-20260101T000010Z", {"schedule": "r"}, cause="e1")


def with_another_spec(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(10_000)
    fire(log, "000010", spec={"schedule": "s", "priority": "low"})


def too_early(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(9_999)
    fire(log, "000010")


def between_two(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(60_000)
    fire(log, "000011")


def at_its_beginning(log: Log) -> None:
    log.schedule("s", **EVERY)
    fire(log, "000000")


def long_after_its_end(log: Log) -> None:
    log.schedule("s", **EVERY)
    said(log, "removed")
    log.wait(60_000)
    fire(log, "000020")


def while_it_was_paused(log: Log) -> None:
    log.schedule("s", **EVERY)
    said(log, "paused")
    log.wait(35_000)
    said(log, "resumed")
    fire(log, "000030")


def off_its_cron(log: Log) -> None:
    log.schedule("s", cron="*/5 * * * *")
    log.wait(900_000)
    fire(log, "000600")


def one_after_the_other(log: Log) -> None:
    log.schedule("s", **SKIP)
    log.wait(10_000)
    first = fire(log, "000010")
    log.wait(15_000)
    finish(log, first)
    log.wait(5_000)
    fire(log, "000030")


def one_beside_the_other(log: Log) -> None:
    log.schedule("s", **SKIP)
    log.wait(10_000)
    fire(log, "000010")
    log.wait(10_000)
    fire(log, "000020")


def one_ended_just_then(log: Log) -> None:
    log.schedule("s", **SKIP)
    log.wait(10_000)
    first = fire(log, "000010")
    log.wait(10_000)
    finish(log, first)
    fire(log, "000020")


def paused_twice(log: Log) -> None:
    log.schedule("s", **EVERY)
    said(log, "paused")
    said(log, "paused")


def resumed_running(log: Log) -> None:
    log.schedule("s", **EVERY)
    said(log, "resumed")


def removed_unset(log: Log) -> None:
    said(log, "removed")


def made_each(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(100_000)
    for instant in ("000040", "000050", "000100", "000110", "000120", "000130", "000140"):
        finish(log, fire(log, instant))
    log.wait(1_000)


def made_by_a_cron(log: Log) -> None:
    log.wait(30_000)
    log.schedule("s", cron="0-30/2 0,1 1-31 * *")
    log.wait(95_000)
    finish(log, fire(log, "000200"))
    log.add("schedule.other", "set", spec={"handler": "h"}, digest="d", every_ms=1_000)
    log.add("schedule.other", "paused")
    log.wait(50_000)
    log.started()


def left_one_of_a_cron_out(log: Log) -> None:
    log.schedule("s", cron="* * * * *")
    log.wait(90_000)
    log.started()


def skipped_where_one_ran(log: Log) -> None:
    log.schedule("s", **SKIP)
    log.wait(10_000)
    first = fire(log, "000010")
    log.wait(25_000)
    finish(log, first)


def left_one_out(log: Log) -> None:
    log.schedule("s", **EVERY)
    log.wait(30_000)
    for instant in ("000010", "000030"):
        finish(log, fire(log, instant))


def skipped_for_nothing(log: Log) -> None:
    log.schedule("s", **SKIP)
    log.wait(10_000)
    first = fire(log, "000010")
    log.wait(5_000)
    finish(log, first)
    log.wait(9_000)
    log.started()


CASES = [
    Case(
        "schedule.task",
        (on_time, revived),
        (of_no_schedule, of_no_rule, by_another_id, with_another_spec),
    ),
    Case(
        "schedule.task",
        (of_no_schedule, of_no_rule),
        (of_a_schedule_that_lost_nothing,),
        tolerance=Tolerance(bereft=frozenset({"s"})),
    ),
    Case(
        "schedule.instant",
        (
            on_time,
            in_milliseconds,
            of_an_old_rule,
            paused_and_resumed,
            of_a_cron,
            of_a_strange_cron,
        ),
        (
            *(too_early, between_two, at_its_beginning, long_after_its_end, while_it_was_paused),
            off_its_cron,
        ),
    ),
    Case("schedule.overlap", (one_after_the_other,), (one_beside_the_other, one_ended_just_then)),
    Case("schedule.life", (paused_and_resumed,), (paused_twice, resumed_running, removed_unset)),
    Case(
        "schedule.owed",
        (made_each, skipped_where_one_ran, made_by_a_cron),
        (left_one_out, left_one_of_a_cron_out, bad(skipped_for_nothing)),
        is_quiet=True,
    ),
]
