"""What a coordinator owes, as the log tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fleetlog.bus import unsettled as module
from fleetlog.bus.core import Queue, RequestCancel, Return, decide
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Stored, encode
from fleetlog.schemas.events import (
    AgentLost,
    AgentStarted,
    AgentStopped,
    BarrierOpened,
    BarrierReleased,
    Event,
    TaskClaimed,
    TaskCompleted,
    TaskHeld,
    TaskQueued,
    TaskReturned,
    verb_of,
)
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject, format_subject
from tests.given import T0

SPEC = TaskSpec(handler="h")


class Log:
    """Events as they come, taken by a coordinator's fold."""

    def __init__(self) -> None:
        self.fold = Unsettled()
        self.seq = 0

    def add(self, thing: str, event: Event) -> int:
        self.seq += 1
        verb = verb_of(event)
        if thing.startswith("a"):
            subject = Subject("main", "agent", thing, verb)
        else:
            subject = Subject("main", "task", thing, verb, queue="default", priority="normal")
        at_ns = int((T0 + timedelta(seconds=self.seq)).timestamp()) * 1_000_000_000
        self.fold.take(Stored(self.seq, at_ns, format_subject(subject), encode(event)))
        return self.seq

    def start(self, agent_id: str) -> None:
        self.add(
            agent_id,
            AgentStarted(
                host="h", pid=1, version="1", queues=(), workers=1, concurrency=1, **stamp()
            ),
        )

    def claim(self, task_id: str, agent_id: str) -> int:
        offer = self.add(task_id, TaskQueued(spec=SPEC, digest="d", **stamp()))
        return self.add(
            task_id,
            TaskClaimed(
                agent_id=agent_id, worker_id="w1", host="h", attempt=1, offer=offer, **stamp()
            ),
        )

    def acts(self, most: int = 1000) -> list[tuple[str, str]]:
        found = self.fold.acts(T0 + timedelta(seconds=self.seq), most)
        return [(task.id, type(command).__name__) for task, command in found]


def stamp() -> dict[str, Any]:
    return {"id": "e", "occurred_at": T0}


def lost() -> AgentLost:
    return AgentLost(silent_ms=3_100, **stamp())


def test_the_claims_of_a_lost_agent_are_returned_and_nobody_elses() -> None:
    log = Log()
    log.start("a1")
    log.start("a2")
    for task_id, agent_id in (("t1", "a1"), ("t2", "a2"), ("t3", "a1"), ("t4", "a1")):
        fence = log.claim(task_id, agent_id)
    log.add("t4", TaskCompleted(attempts=1, fence=fence, **stamp()))
    assert log.acts() == []
    log.add("a1", lost())
    assert set(log.fold.agents) == {"a2"}
    assert log.acts() == [("t1", "Return"), ("t3", "Return")]
    assert log.acts() == []


def test_what_could_not_be_done_comes_again() -> None:
    log = Log()
    log.start("a1")
    log.claim("t1", "a1")
    log.add("a1", lost())
    [(task, _)] = log.fold.acts(T0, 10)
    log.fold.put_back(task, T0)
    assert log.acts() == [("t1", "Return")]


def test_a_claim_that_comes_after_its_agents_end_is_returned_too() -> None:
    log = Log()
    log.start("a1")
    log.add("a1", AgentStopped(**stamp()))
    log.claim("t1", "a1")
    assert log.acts() == [("t1", "Return")]


def test_what_another_coordinator_did_is_not_done_again() -> None:
    log = Log()
    log.start("a1")
    fence = log.claim("t1", "a1")
    log.add("a1", lost())
    log.add(
        "t1", TaskReturned(attempts=1, fence=fence, error_class="lost", error="lost", **stamp())
    )
    assert log.acts() == [("t1", "Queue")]
    log.claim("t1", "a2")
    assert log.acts() == []
    assert log.fold.next_at() is None


def test_no_more_acts_than_asked_for_and_none_forgotten() -> None:
    log = Log()
    log.start("a1")
    for number in range(7):
        log.claim(f"t{number}", "a1")
    log.add("a1", lost())
    assert [len(log.acts(3)) for _ in range(4)] == [3, 3, 1, 0]


def test_a_restored_fold_does_the_same_as_the_one_it_was_taken_from() -> None:
    log = Log()
    log.start("a1")
    log.start("a2")
    fence = log.claim("t1", "a2")
    log.add("t1", TaskReturned(attempts=1, fence=fence, error_class="x", error="x", **stamp()))
    log.claim("t2", "a1")
    log.claim("t3", "a2")
    log.add("a1", lost())
    other = Unsettled()
    fold = log.fold
    other.restore(fold.seq, fold.tasks.values(), fold.parts())
    now = T0 + timedelta(seconds=60)
    assert other.acts(now, 10) == fold.acts(now, 10)
    assert (other.seq, other.tasks, other.agents, other.ended) == (
        *(fold.seq, fold.tasks, fold.agents, fold.ended),
    )


def test_the_oldest_of_the_ended_agents_are_forgotten_unless_they_hold_something(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(module, "ENDED_MAX", 2)
    log = Log()
    for name in ("a0", "a1", "a2"):
        log.start(name)
    log.claim("t1", "a0")
    for name in ("a0", "a1", "a2"):
        log.add(name, lost())
    assert set(log.fold.ended) == {"a0", "a2"}


def test_a_standby_does_not_keep_what_came_to_pass_without_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_STALE_MAX", 10)
    log = Log()
    for number in range(50):
        fence = log.claim(f"t{number}", "a1")
        log.add(
            f"t{number}",
            TaskReturned(attempts=1, fence=fence, error_class="x", error="x", **stamp()),
        )
        log.add(f"t{number}", TaskQueued(spec=SPEC, digest="d", attempt=2, **stamp()))
        log.add(f"t{number}", TaskCompleted(attempts=2, fence=None, **stamp()))
    assert len(log.fold._due) <= 10 + 2 * len(log.fold.tasks)


def test_the_act_of_two_coordinators_has_one_id() -> None:
    log = Log()
    log.start("a1")
    log.claim("t1", "a1")
    log.add("a1", lost())
    [(task, command)] = log.fold.acts(T0, 10)
    assert isinstance(command, Return)
    event = decide(command, task, T0)
    assert isinstance(event, TaskReturned)
    assert event.id == f"t1-{task.version}-return"


def test_a_second_end_of_a_barrier_counts_as_a_violation() -> None:
    fold = Unsettled()
    plan = FanOutSpec(count=1, members=(Member("t1", SPEC),), then=Member("b-then", SPEC))
    end = {"opened": 1, "expected": 1, "settled": 1, "succeeded": 1, "outcomes": (9,)}
    for seq, (verb, event) in enumerate(
        [
            ("opened", BarrierOpened(fan_out=plan, digest="d", **stamp())),
            ("released", BarrierReleased(**end, **stamp())),
            ("released", BarrierReleased(**end, **stamp())),
        ],
        1,
    ):
        subject = format_subject(Subject("main", "barrier", "b", verb))
        fold.take(Stored(seq, seq * 1_000_000_000, subject, encode(event)))
    assert fold.violation_count == 1


def test_a_task_is_queued_where_the_last_one_of_its_affinity_ran() -> None:
    log = Log()
    spec = TaskSpec(handler="h", affinity="shop")
    started = AgentStarted(
        host="h1",
        pid=1,
        version="1",
        queues=("default",),
        workers=1,
        concurrency=1,
        labels={"host": "h1"},
        **stamp(),
    )
    log.add("a1", started)
    offer = log.add("t1", TaskQueued(spec=spec, digest="d", **stamp()))
    place = {"worker_id": "w1", "host": "h1", "attempt": 1}
    log.add("t1", TaskClaimed(agent_id="a1", offer=offer, **place, **stamp()))
    log.add("t2", TaskHeld(spec=spec, digest="d", **stamp()))
    [(task, command)] = log.fold.acts(T0 + timedelta(seconds=9), 10)
    assert (task.id, command) == ("t2", Queue(id="t2-4-queue", host="h1"))
    cancel = RequestCancel(id="c")
    assert log.fold.placed(task, cancel) is cancel
    log.fold.put_back(task, T0 + timedelta(seconds=9))
    log.add("a1", AgentStopped(**stamp()))
    [_, (_, command)] = log.fold.acts(T0 + timedelta(seconds=9), 10)
    assert command == Queue(id="t2-4-queue")
