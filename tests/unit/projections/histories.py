"""Logs as lists, for the tests of projections: what the rules write, and what they never would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fleetlog.schemas.envelope import Stored, encode
from fleetlog.schemas.events import (
    AgentStarted,
    BudgetExhausted,
    BudgetSet,
    Event,
    LimitAdmitted,
    LimitSet,
    TaskClaimed,
    TaskCompleted,
    TaskQueued,
    type_of,
)
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.specs import TaskSpec

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T0_NS = 1_767_225_600_000_000_000
FLEET = "test"


class Log:
    """Messages in order; message n is stored n seconds after the first instant, or `second` if that is set."""

    def __init__(self, first: int = 1) -> None:
        self.messages: list[Stored] = []
        self.second: int | None = None
        self._next = first

    @property
    def next_seq(self) -> int:
        return self._next

    def raw(self, subject: str, data: bytes, *, at_ns: int | None = None) -> int:
        seq, self._next = self._next, self._next + 1
        second = seq if self.second is None else self.second
        stamp = T0_NS + second * 1_000_000_000 if at_ns is None else at_ns
        self.messages.append(Stored(seq, stamp, f"fleetlog.{FLEET}.{subject}", data))
        return seq

    def task(self, task_id: str, event: Event, lane: str = "default.normal") -> int:
        verb = type_of(event).rpartition(".")[2]
        return self.raw(f"task.{task_id}.{lane}.{verb}", encode(event))

    def agent(self, agent_id: str, event: Event) -> int:
        return self.raw(f"agent.{agent_id}.{type_of(event).rpartition('.')[2]}", encode(event))

    def queue(self, queue: str, event: Event) -> int:
        return self.raw(f"queue.{queue}.{type_of(event).rpartition('.')[2]}", encode(event))

    def barrier(self, barrier_id: str, event: Event) -> int:
        return self.raw(f"barrier.{barrier_id}.{type_of(event).rpartition('.')[2]}", encode(event))

    def credential(self, name: str, event: Event) -> int:
        return self.raw(f"credential.{name}.{type_of(event).rpartition('.')[2]}", encode(event))

    def limit(self, event: LimitSet | LimitAdmitted) -> int:
        verb = type_of(event).rpartition(".")[2]
        return self.raw(f"limit.{key_token(event.key)}.{verb}", encode(event))

    def budget(self, event: BudgetSet | BudgetExhausted) -> int:
        verb = type_of(event).rpartition(".")[2]
        return self.raw(f"budget.{key_token(event.key)}.{verb}", encode(event))

    def schedule(self, name: str, event: Event) -> int:
        return self.raw(f"schedule.{name}.{type_of(event).rpartition('.')[2]}", encode(event))

    def worker(self, agent_id: str, worker_id: str, event: Event) -> int:
        verb = type_of(event).rpartition(".")[2]
        return self.raw(f"worker.{agent_id}.{worker_id}.{verb}", encode(event))

    def run(self, task_id: str, **outcome: Any) -> tuple[int, int, int]:
        """A task that is queued, claimed and completed; answers the three sequences."""
        offer = self.task(task_id, make(TaskQueued, spec=TaskSpec(handler="greet"), digest="d"))
        fence = self.task(task_id, claim(offer))
        end = self.task(task_id, make(TaskCompleted, attempts=1, fence=fence, **outcome))
        return offer, fence, end


def make(kind: type[Event], **fields: Any) -> Any:
    return kind(id="e", occurred_at=T0, **fields)


def claim(offer: int, *, agent: str = "a1", worker: str = "w1", **fields: Any) -> TaskClaimed:
    place = {"agent_id": agent, "worker_id": worker, "host": "h1"}
    return make(TaskClaimed, offer=offer, **{"attempt": 1, **place, **fields})


def started(**fields: Any) -> AgentStarted:
    usual = {"host": "h1", "pid": 7, "version": "1", "queues": ("default",), "workers": 2}
    return make(AgentStarted, **{**usual, "concurrency": 1, **fields})


def instant(us: int | None) -> datetime | None:
    return None if us is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
