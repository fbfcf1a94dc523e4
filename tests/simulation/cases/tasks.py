"""Logs about a task's life: its states, its spec, its revivals and its end."""

from __future__ import annotations

from simulation.cases.case import Case
from simulation.writing import Fields, Log

KEY_ID = "k2c70e12b7a0646f92279f427c7b38e73"
"""`k` and the first 32 hex digits of the SHA-256 of `key`."""
GPU_LANE = ("default-needs-gpu-yes-65a5d50e", "normal")
HOST_LANE = ("default-needs-host-h-aabb90c0", "normal")


# States.


def every_way(log: Log) -> None:
    log.ran("t")
    log.held("held", {"delay_ms": 5})
    log.ended("cancelled", "held")
    log.queued("retried")
    log.claimed("retried")
    log.retried("retried")
    log.queued("retried")
    log.claimed("retried")
    log.returned("retried")
    log.queued("retried")
    log.wait(60_000)
    log.queued("retried")
    log.claimed("retried")
    log.cancel_requested("retried")
    log.ended("completed", "retried")
    log.queued("failed")
    log.claimed("failed")
    log.ended("failed", "failed", error_class="permanent")


def claimed_while_held(log: Log) -> None:
    log.held("t", {"delay_ms": 5})
    log.claimed("t")


def ended_before_it_was_there(log: Log) -> None:
    log.ran("t")
    log.messages[:] = []
    log.ended("completed", "t")


def failed_on_offer(log: Log) -> None:
    log.queued("t")
    log.ended("failed", "t", error_class="dependency")


def failed_unclaimed(log: Log) -> None:
    log.held("t", {"delay_ms": 5})
    log.ended("failed", "t", error_class="error")


def end_asked_for_twice(log: Log) -> None:
    log.queued("t")
    log.cancel_requested("t")


def offered_while_claimed(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.queued("t")


def ended_twice(log: Log) -> None:
    log.ran("t")
    log.ended("cancelled", "t")


def offered_after_the_end(log: Log) -> None:
    log.ran("t")
    log.queued("t")


def replaced(log: Log) -> None:
    log.queued("t")
    log.queued("t", {"args": {"n": 1}})
    log.held("t", {"delay_ms": 1000, "args": {"n": 2}})
    log.held("t", {"delay_ms": 1000, "args": {"n": 2}})
    log.queued("t", {})


def replaced_after_a_run(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t")
    log.queued("t", {"args": {"n": 1}})


def changed_while_it_waits(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.retried("t")
    log.queued("t", {"args": {"n": 1}})


def changed_by_an_answer(log: Log) -> None:
    log.held("t", {"fair_key": "f"})
    log.queued("t")
    log.claimed("t")
    log.asked("t")
    log.answered("t")
    log.held("t", {"fair_key": "g"})


def a_member_replaced(log: Log) -> None:
    log.held("t", {"budget": {"tokens": 1}})
    log.held("t", {"budget": {"tokens": 2}})


def on_its_lanes(log: Log) -> None:
    log.held("t", {"requires": {"gpu": "yes"}, "affinity": "p"}, lane=GPU_LANE)
    log.queued("t", host="h", lane=("default-needs-gpu-yes-host-h-7b8250bd", "normal"))
    log.claimed("t", lane=GPU_LANE)
    log.ended("completed", "t", lane=GPU_LANE)


def off_its_queue(log: Log) -> None:
    log.queued("t", lane=("other", "normal"))


def off_its_priority(log: Log) -> None:
    log.queued("t", {"priority": "low"}, lane=("default", "high"))


def off_its_requirements(log: Log) -> None:
    log.queued("t", {"requires": {"gpu": "yes"}})


def off_its_host(log: Log) -> None:
    log.held("t", {"affinity": "p"})
    log.queued("t", host="h")


def with_a_key(log: Log) -> None:
    log.ran(KEY_ID, {"key": "key"})


def with_a_key_elsewhere(log: Log) -> None:
    log.ran("t", {"key": "key"})


# Revivals.


def failed(log: Log, task_id: str, spec: Fields | None = None, cause: str | None = None) -> None:
    log.queued(task_id, spec, cause=cause)
    log.claimed(task_id)
    log.ended("failed", task_id, error_class="permanent")


def revived_twice(log: Log) -> None:
    failed(log, KEY_ID, {"key": "key", "args": {"n": 1}})
    failed(log, f"{KEY_ID}-r1", {"args": {"n": 1}}, cause=KEY_ID)
    failed(log, f"{KEY_ID}-r2", {"args": {"n": 1}}, cause=f"{KEY_ID}-r1")
    log.queued(f"{KEY_ID}-r3", {"args": {"n": 1}}, cause=f"{KEY_ID}-r2")
    log.ended("cancelled", f"{KEY_ID}-r3")
    log.queued(f"{KEY_ID}-r4", {"args": {"n": 1}}, cause=f"{KEY_ID}-r3")
    log.queued("other-r1")


def revived_alive(log: Log) -> None:
    log.ran("t")
    log.queued("t-r1", cause="t")


def revived_when_it_was_cancelled(log: Log) -> None:
    log.queued("t")
    log.ended("cancelled", "t")
    log.queued("t-r1", cause="t")


def revived_as_another(log: Log) -> None:
    failed(log, "t", {"args": {"n": 1}})
    log.queued("t-r1", {"args": {"n": 2}}, cause="t")


# Cancels.


def obeyed(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.cancel_requested("t")
    log.ended("cancelled", "t")


def tried_again_all_the_same(log: Log) -> None:
    log.queued("t")
    log.claimed("t")
    log.cancel_requested("t")
    log.retried("t")


CASES = [
    Case(
        "task.transition",
        (every_way,),
        (
            *(claimed_while_held, ended_before_it_was_there, failed_on_offer, end_asked_for_twice),
            *(offered_while_claimed, failed_unclaimed),
        ),
    ),
    Case("task.one_ending", (every_way,), (ended_twice,)),
    Case("task.after_ending", (every_way,), (offered_after_the_end,)),
    Case(
        "task.spec",
        (replaced,),
        (replaced_after_a_run, changed_while_it_waits, changed_by_an_answer, a_member_replaced),
    ),
    Case(
        "task.lane",
        (on_its_lanes,),
        (off_its_queue, off_its_priority, off_its_requirements, off_its_host),
    ),
    Case("task.key", (with_a_key,), (with_a_key_elsewhere,)),
    Case(
        "task.revival",
        (revived_twice,),
        (revived_alive, revived_when_it_was_cancelled, revived_as_another),
    ),
    Case("cancel.heeded", (obeyed, every_way), (tried_again_all_the_same,)),
]
