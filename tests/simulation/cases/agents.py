"""Logs about agents, their workers, and queues that stand for requirements."""

from __future__ import annotations

from simulation.cases.case import Case
from simulation.cases.tasks import GPU_LANE, HOST_LANE
from simulation.writing import Log

GPU = {"requires": {"gpu": "yes"}}


def lives(log: Log) -> None:
    log.started("a")
    log.add("agent.a", "draining")
    log.add("agent.a", "stopped")
    log.started("b")
    log.add("agent.b", "lost", silent_ms=1)
    # It did not know.
    log.add("agent.b", "stopped")


def starts_twice(log: Log) -> None:
    log.started("a")
    log.started("a")


def drains_unstarted(log: Log) -> None:
    log.add("agent.a", "draining")


def lost_after_it_stopped(log: Log) -> None:
    log.started("a")
    log.add("agent.a", "stopped")
    log.add("agent.a", "lost", silent_ms=1)


def lost_twice(log: Log) -> None:
    log.started("a")
    log.add("agent.a", "lost", silent_ms=1)
    log.add("agent.a", "lost", silent_ms=1)


def claims_its_own(log: Log) -> None:
    log.started("a", labels={"gpu": "yes"})
    log.queued("t", GPU, lane=GPU_LANE)
    log.claimed("t", lane=GPU_LANE)
    log.queued("u")
    # Nothing is known of this one.
    log.claimed("u", agent_id="x", host="far")


def claims_from_another_queue(log: Log) -> None:
    log.started("a")
    log.queued("t", {"queue": "other"})
    log.claimed("t")


def claims_without_the_labels(log: Log) -> None:
    log.started("a", labels={"gpu": "no"})
    log.queued("t", GPU, lane=GPU_LANE)
    log.claimed("t", lane=GPU_LANE)


def claims_on_another_host(log: Log) -> None:
    log.started("a")
    log.queued("t")
    log.claimed("t", host="i")


def refuse(log: Log, fence: int, agent_id: str = "a", attempt: int = 1) -> None:
    said = {"task_id": "t", "attempt": attempt, "fence": fence, "verb": "completed"}
    log.add(f"worker.{agent_id}.w", "refused", **said, type="worker.refused")


def refused_too_late(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence, agent_id="b")
    refuse(log, fence)


def refused_alive(log: Log) -> None:
    log.queued("t")
    refuse(log, log.claimed("t"))


def refused_from_another(log: Log) -> None:
    log.queued("t")
    fence = log.claimed("t")
    log.claimed("t", over=fence)
    refuse(log, fence, "b")


def refused_without_a_claim(log: Log) -> None:
    refuse(log, log.queued("t"))


def derived(log: Log) -> None:
    name = "default-needs-gpu-yes-65a5d50e"
    log.add(f"queue.{name}", "derived", queue="default", requires={"gpu": "yes"})
    log.add(f"queue.{name}", "paused")


def derived_from_others(log: Log) -> None:
    name = "default-needs-gpu-yes-65a5d50e"
    log.add(f"queue.{name}", "derived", queue="default", requires={"gpu": "no"})


def claimed_while_it_may(log: Log) -> None:
    log.queued("t")
    log.queued("u")
    log.queued("other", {"queue": "other"})
    log.add("queue.default", "paused")
    log.wait(10_000)
    # Its agent had not heard of it.
    log.claimed("t")
    log.wait(10_000)
    log.claimed("other")
    log.add("queue.default", "resumed")
    log.claimed("u")


def claimed_from_a_paused_queue(log: Log) -> None:
    log.queued("t")
    log.add("queue.default", "paused")
    log.wait(10_001)
    log.claimed("t")


def claimed_from_a_derived_one(log: Log) -> None:
    log.queued("t", GPU, lane=GPU_LANE)
    log.add("queue.default", "paused")
    log.wait(10_001)
    log.claimed("t", lane=GPU_LANE)


def claimed_from_a_paused_derived_one(log: Log) -> None:
    log.held("t", {"affinity": "p"})
    log.queued("t", host="h", lane=HOST_LANE)
    log.add(f"queue.{HOST_LANE[0]}", "paused")
    log.wait(10_001)
    log.claimed("t")


CASES = [
    Case(
        "agent.life", (lives,), (starts_twice, drains_unstarted, lost_after_it_stopped, lost_twice)
    ),
    Case(
        "claim.agent",
        (claims_its_own,),
        (claims_from_another_queue, claims_without_the_labels, claims_on_another_host),
    ),
    Case(
        "claim.refused",
        (refused_too_late,),
        (refused_alive, refused_from_another, refused_without_a_claim),
    ),
    Case(
        "queue.paused",
        (claimed_while_it_may,),
        (
            *(claimed_from_a_paused_queue, claimed_from_a_derived_one),
            claimed_from_a_paused_derived_one,
        ),
    ),
    Case("queue.derived", (derived,), (derived_from_others,)),
]
