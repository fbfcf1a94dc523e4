"""Logs about claims: fences, counts and bounds."""

from __future__ import annotations

from simulation.cases.case import Case, bad
from simulation.cases.tasks import HOST_LANE
from simulation.writing import Log


def claimed_over_the_dead(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    log.ended("completed", "t")


def claimed_twice(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.claimed("t")


def claimed_over_another(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    log.claimed("t", over=fence)


def claimed_by_an_old_offer(log: Log) -> None:
    offer = log.queued("t")
    log.queued("t")
    log.claimed("t", offer=offer)


def claimed_over_nothing(log: Log) -> None:
    offer = log.queued("t")
    log.claimed("t", over=offer)


def claimed_over_by_another_offer(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence, offer=fence)


def claimed_again(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.claimed("t")


def a_fence_that_falls(log: Log) -> None:
    claimed_again(log)
    last = log.messages.pop()
    log.messages.append(last._replace(seq=2))


def ended_by_a_stale_worker(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    log.ended("completed", "t", fence=fence)


def ended_without_a_fence(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.ended("cancelled", "t", fence=None)


def ended_by_a_fence_of_the_past(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.retried("t")
    log.ended("cancelled", "t", fence=fence)


def retried_by_a_stale_worker(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    log.retried("t", fence=fence)


def returned_by_a_stale_worker(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    log.returned("t", fence=fence)


def expired_by_a_fence(log: Log) -> None:
    offer = log.queued("t", {"expires_ms": 1})
    log.wait(1)
    log.ended("expired", "t", limit="expires", fence=offer)


def claimed_at_home(log: Log) -> None:
    log.held("t", {"affinity": "p"})
    log.queued("t", host="h", lane=HOST_LANE)
    log.claimed("t")


def claimed_elsewhere(log: Log) -> None:
    log.held("t", {"affinity": "p"})
    log.queued("t", host="h", lane=HOST_LANE)
    log.claimed("t", host="i")


def counted_wrong_in_a_claim(log: Log) -> None:
    log.queued("t")
    log.claimed("t", attempt=2)


def counted_wrong_in_an_end(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.ended("completed", "t", attempts=2)


def counted_wrong_unclaimed(log: Log) -> None:
    log.queued("t")
    log.ended("cancelled", "t", attempts=1)


def counts_of_many_attempts(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.wait(5)
    log.claimed("t", over=fence)
    log.retried("t")
    log.queued("t")
    log.claimed("t")
    log.returned("t", "lost")
    log.queued("t")


def offered_with_another_attempt(log: Log) -> None:
    log.queued("t", attempt=2)


def offered_with_failures_forgotten(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t", failures=0)


def offered_with_losses_forgotten(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.returned("t", "lost")
    log.queued("t", losses=0)


def offered_as_if_new(log: Log) -> None:
    log.queued("t")
    log.queued("t", submitted_at=None)


def offered_as_if_old(log: Log) -> None:
    log.queued("t", submitted_at="2025-01-01T00:00:00Z")


def as_often_as_allowed(log: Log) -> None:
    log.queued("t", {"max_attempts": 2})
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.claimed("t")
    log.ended("failed", "t", error_class="error")


def once_too_often(log: Log) -> None:
    log.queued("t", {"max_attempts": 1})
    log.claimed("t")
    log.retried("t")


def a_question_too_many(log: Log) -> None:
    log.queued("t")
    for _ in range(100):
        log.claimed("t")
        log.asked("t")
        log.answered("t")
        log.queued("t")
    log.claimed("t")
    log.asked("t")


def lost_twice(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    log.returned("t", "lost")
    log.queued("t")
    log.claimed("t")
    log.ended("failed", "t", error_class="lost")


def lost_thrice(log: Log) -> None:
    log.queued("t")
    for _ in range(3):
        log.claimed("t")
        log.returned("t", "lost")
        log.queued("t")


def lost_thrice_by_claims(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    for _ in range(3):
        fence = log.claimed("t", over=fence)


CASES = [
    Case("claim.live", (claimed_over_the_dead,), (claimed_twice, claimed_over_another)),
    Case(
        "claim.offer",
        (claimed_over_the_dead, claimed_again),
        (claimed_by_an_old_offer, claimed_over_nothing, claimed_over_by_another_offer),
    ),
    Case("claim.grows", (claimed_again,), (bad(a_fence_that_falls, "log.sequence"),)),
    Case(
        "claim.fence",
        (claimed_over_the_dead,),
        (
            *(ended_by_a_stale_worker, ended_without_a_fence, ended_by_a_fence_of_the_past),
            *(expired_by_a_fence, retried_by_a_stale_worker, returned_by_a_stale_worker),
        ),
    ),
    Case("claim.host", (claimed_at_home,), (claimed_elsewhere,)),
    Case(
        "count.attempts",
        (counts_of_many_attempts,),
        (counted_wrong_in_a_claim, counted_wrong_in_an_end, counted_wrong_unclaimed),
    ),
    Case(
        "count.offer",
        (counts_of_many_attempts,),
        (
            *(offered_with_another_attempt, offered_with_failures_forgotten),
            *(offered_with_losses_forgotten, offered_as_if_new, offered_as_if_old),
        ),
    ),
    Case("bound.attempts", (as_often_as_allowed,), (once_too_often, a_question_too_many)),
    Case("bound.losses", (lost_twice,), (lost_thrice, lost_thrice_by_claims)),
]
