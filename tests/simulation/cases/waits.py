"""Logs about what a task waits for: time, its gates, and answers."""

from __future__ import annotations

from simulation.cases.barriers import all_of_it
from simulation.cases.case import Case, bad
from simulation.cases.tasks import HOST_LANE
from simulation.writing import Log


def waited(log: Log) -> None:
    log.held("t", {"delay_ms": 500})
    log.wait(500)
    log.queued("t")
    log.claimed("t")
    log.retried("t", 1000)
    log.wait(1000)
    log.queued("t")
    log.claimed("t")
    log.returned("t", delay_ms=30)
    log.wait(30)
    log.queued("t")


def retried_too_early(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t", 1000)
    log.wait(999)
    log.queued("t")


def returned_too_early(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.returned("t", delay_ms=1000)
    log.wait(999)
    log.queued("t")


def waiting_backwards(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t", -1)


def offered_before_its_delay(log: Log) -> None:
    log.held("t", {"delay_ms": 500})
    log.wait(499.9)
    log.queued("t")


def moved(log: Log) -> None:
    log.held("t", {"affinity": "p", "affinity_ms": 70_000})
    log.queued("t", host="h", lane=HOST_LANE)
    log.wait(60_000)
    log.queued("t", host="h", lane=HOST_LANE)
    log.wait(70_000)
    log.queued("t")


def moved_too_early(log: Log) -> None:
    log.held("t", {"affinity": "p"})
    log.queued("t", host="h", lane=HOST_LANE)
    log.wait(29_999)
    log.queued("t")


def moved_to_another_host(log: Log) -> None:
    log.held("t", {"affinity": "p", "affinity_ms": 1})
    log.queued("t")
    log.wait(5)
    log.queued("t", host="h", lane=HOST_LANE)


def offered_again(log: Log) -> None:
    log.queued("t")
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.wait(60_000)
    log.queued("t")


def offered_again_at_once(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.wait(59_999)
    log.queued("t")


def continuation_offered_twice(log: Log) -> None:
    all_of_it(log)
    # Without its claim and its end.
    del log.messages[-2:]
    log.queued("b-then", attempt=1)


def expired(log: Log) -> None:
    log.queued("t", {"start_within_ms": 100})
    log.held("u", {"expires_ms": 100, "delay_ms": 500})
    log.wait(100)
    log.ended("expired", "t", limit="start_within")
    log.ended("expired", "u", limit="expires")


def expired_too_early(log: Log) -> None:
    log.queued("t", {"start_within_ms": 100})
    log.wait(99)
    log.ended("expired", "t", limit="start_within")


def expired_by_a_limit_of_others(log: Log) -> None:
    log.queued("t", {"start_within_ms": 100})
    log.wait(100)
    log.ended("expired", "t", limit="expires")


def started_in_time(log: Log) -> None:
    log.queued("t", {"start_within_ms": 100, "expires_ms": 200})
    log.wait(99)
    log.claimed("t")
    log.wait(500)
    log.ended("completed", "t")


def started_too_late(log: Log) -> None:
    log.queued("t", {"start_within_ms": 100})
    log.wait(100)
    log.claimed("t")


def started_when_all_was_over(log: Log) -> None:
    log.queued("t", {"expires_ms": 100})
    log.wait(100)
    log.claimed("t")


# Gates.


def behind_gates(log: Log) -> None:
    log.held("delayed", {"delay_ms": 1})
    log.held("fair", {"fair_key": "f"})
    log.queued("fair")
    log.held("fair")
    log.queued("fair")
    log.held("near", {"affinity": "p"})
    log.queued("free")


def held_for_nothing(log: Log) -> None:
    log.held("t")


def offered_past_its_gate(log: Log) -> None:
    log.queued("t", {"fair_key": "f"})


def taken_back_for_nothing(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.held("t")


def taken_back_untouched(log: Log) -> None:
    log.held("t", {"affinity": "p", "barrier_id": "b"})
    log.queued("t")
    log.held("t")


def answered_past_its_gate(log: Log) -> None:
    log.held("t", {"fair_key": "f"})
    log.queued("t")
    log.claimed("t")
    log.asked("t")
    log.answered("t")
    log.queued("t")


def held_by_an_answer_for_nothing(log: Log) -> None:
    asking(log)
    log.answered("t")
    log.held("t")


# Questions.


def asking(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.asked("t", choices=["yes", "no"])


def answered(log: Log) -> None:
    asking(log)
    log.answered("t")
    log.queued("t")
    log.claimed("t")
    log.asked("t", "sure?")
    log.answered("t", {"any": "thing"}, "sure?")
    log.queued("t")
    log.held("u", {"fair_key": "f"})
    log.queued("u")
    log.claimed("u")
    log.asked("u")
    log.answered("u")
    log.held("u")
    log.queued("u")


def going_on_unanswered(log: Log) -> None:
    asking(log)
    log.queued("t")


def answered_something_else(log: Log) -> None:
    asking(log)
    log.answered("t", text="what?")
    log.queued("t")


def answered_no_choice(log: Log) -> None:
    asking(log)
    log.answered("t", "perhaps")
    log.queued("t")


def answered_unasked(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.answered("t")
    log.queued("t")


def answered_on_offer(log: Log) -> None:
    log.queued("t")
    log.answered("t")
    log.queued("t")


CASES = [
    Case("wait.retry", (waited,), (retried_too_early, returned_too_early, waiting_backwards)),
    Case("wait.delay", (waited,), (offered_before_its_delay,)),
    Case("wait.affinity", (moved,), (moved_too_early, moved_to_another_host)),
    Case("wait.again", (offered_again,), (offered_again_at_once, continuation_offered_twice)),
    Case("wait.expiry", (expired,), (expired_too_early, expired_by_a_limit_of_others)),
    Case("wait.no_late_start", (started_in_time,), (started_too_late, started_when_all_was_over)),
    Case(
        "gate.held",
        (behind_gates, answered),
        (
            *(held_for_nothing, offered_past_its_gate, taken_back_for_nothing),
            bad(taken_back_untouched, "barrier.members"),
            *(answered_past_its_gate, held_by_an_answer_for_nothing),
        ),
    ),
    Case(
        "question.answered",
        (answered,),
        (
            *(going_on_unanswered, answered_something_else, answered_no_choice, answered_unasked),
            answered_on_offer,
        ),
    ),
]
