"""The views by minute say what counting event by event says, on any history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.bus.core import Claim, Complete, Fail, Queue, Submit, Task, decide, evolve
from fleetlog.bus.core.commands import Cancel
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.projections.store import Store
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import (
    AgentDraining,
    AgentLost,
    Event,
    TaskHeld,
    WorkerExited,
    WorkerSpawned,
)
from fleetlog.schemas.specs import TaskSpec, payload_digest
from tests.unit.projections.histories import FLEET, T0, T0_NS, Log, make, started

pytestmark = pytest.mark.usefixtures("unmeasured")

LANES: Final = ("default.normal", "default.high", "gpu.normal")
QUEUES: Final = {"a0": ("default",), "a1": ("default", "gpu"), "a2": ("gpu",)}
WORKERS: Final = 2
MINUTE_S: Final = 60


class Step(msgspec.Struct, frozen=True):
    """One thing that happens, some seconds after the last one."""

    what: str
    who: int
    after_s: int


HAPPENINGS: Final = (
    *("submit", "submit", "claim", "claim", "claim", "complete", "fail", "queue", "cancel"),
    *("spawn", "exit", "drain", "lose", "start", "break"),
)
RARE: Final = ("exit", "drain", "lose")


def steps(random: Random) -> Iterator[Step]:
    """A fleet that mostly works: what would end it is rare."""
    for who in range(12):
        yield Step("start", who, 0)
        yield Step("spawn", who, random.choice((0, 5)))
    for _ in range(random.randrange(150)):
        what = random.choice(HAPPENINGS)
        if what not in RARE or random.random() < 0.2:
            yield Step(what, random.randrange(60), random.choice((0, 0, 1, 7, 40, 59, 60, 61)))


class World:
    """A fleet of three agents, which only has to be possible, not sensible."""

    def __init__(self) -> None:
        self.log = Log()
        self.now_s = 0
        self.tasks = [Task(id=f"t{n}") for n in range(20)]

    def step(self, step: Step) -> None:
        self.now_s += step.after_s
        agent, worker = f"a{step.who % 3}", f"w{step.who // 3 % WORKERS}"
        self.log.second = self.now_s
        match step.what:
            case "start":
                self.log.agent(agent, started(host=f"h-{agent}", queues=QUEUES[agent]))
            case "drain":
                self.log.agent(agent, make(AgentDraining))
            case "lose":
                self.log.agent(agent, make(AgentLost, silent_ms=3))
            case "spawn":
                self.log.worker(agent, worker, make(WorkerSpawned, host=f"h-{agent}", pid=1))
            case "exit":
                exited = make(WorkerExited, host=f"h-{agent}", pid=1, exit_code=0)
                self.log.worker(agent, worker, exited)
            case what:
                self._of_task(what, step.who % len(self.tasks), agent, worker)

    def _of_task(self, what: str, number: int, agent: str, worker: str) -> None:
        task, lane = self.tasks[number], LANES[number % len(LANES)]
        if what == "break":
            self.log.task(task.id, make(TaskHeld, spec=TaskSpec(handler="h"), digest="d"), lane)
        else:
            now = T0 + timedelta(seconds=self.now_s)
            event = decide(_command(what, task, agent, worker), task, now)
            if not isinstance(event, Event):
                return
            self.log.task(task.id, event, lane)
        self.tasks[number] = evolve(task, open_stored(self.log.messages[-1]))


def _command(what: str, task: Task, agent: str, worker: str) -> AnyCommand:
    fence = task.lease.fence if task.lease else 1
    match what:
        case "submit":
            spec = TaskSpec(handler="h")
            return Submit(id="c", spec=spec, digest=payload_digest(spec))
        case "claim":
            place = {"agent_id": agent, "worker_id": worker, "host": f"h-{agent}"}
            return Claim(id="c", offer=task.offer, **place)
        case "complete":
            return Complete(id="c", fence=fence, result=msgspec.Raw(b"1"))
        case "fail":
            return Fail(id="c", fence=fence, error_class="error", error="no", jitter=0.0)
        case "queue":
            return Queue(id="c")
        case _:
            return Cancel(id="c", fence=fence)


class Worker(msgspec.Struct):
    """What is known of one worker."""

    agent: str
    is_in: bool = False
    was_in: bool = False
    has_gone: bool = False


class Count:
    """The fleet after each event, counted the plain way."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.offered_s: dict[str, int] = {}
        self.lanes: dict[str, str] = {}
        self.queues: dict[str, tuple[str, ...]] = {}
        self.ended: set[str] = set()
        self.draining: set[str] = set()
        self.workers: dict[tuple[str, str], Worker] = {}

    def take(self, message: Stored) -> None:
        record = open_stored(message)
        assert record.subject is not None
        kind, name = record.subject.kind, record.subject.id
        verb = message.subject.rpartition(".")[2]
        if kind == "task":
            self._take_task(name, message)
        elif verb == "started":
            self.queues.setdefault(name, QUEUES[name])
        elif verb == "draining":
            self.draining.add(name)
        elif verb == "lost":
            self.ended.add(name)
        else:
            worker = self.workers.setdefault((name, message.subject.split(".")[4]), Worker(name))
            if verb == "exited":
                worker.has_gone = True
            elif not worker.was_in:
                worker.was_in = True

    def _take_task(self, name: str, message: Stored) -> None:
        before = self.tasks.get(name, Task(id=name))
        after = self.tasks[name] = evolve(before, open_stored(message))
        if after.offer == message.seq:
            self.offered_s[name] = second_of(message)
            self.lanes[name] = message.subject.split(".")[4]

    def is_available(self, worker: Worker) -> bool:
        return worker.was_in and not worker.has_gone and worker.agent not in self.ended

    def busy(self) -> set[tuple[str, str]]:
        leases = [task.lease for task in self.tasks.values() if task.lease is not None]
        holders = {(lease.agent_id, lease.worker_id) for lease in leases}
        return {key for key, w in self.workers.items() if key in holders and self.is_available(w)}

    def line(self, queue: str, at_s: int) -> dict[str, Any]:
        waits = [
            at_s - self.offered_s[name]
            for name, task in self.tasks.items()
            if task.status == "queued" and self.lanes[name] == queue
        ]
        serving = {
            key
            for key, worker in self.workers.items()
            if self.is_available(worker)
            and worker.agent not in self.draining
            and queue in self.queues.get(worker.agent, ())
        }
        return {
            "minute": at_s,
            "queue": queue,
            "depth": len(waits),
            "oldest_wait_s": max(waits, default=None),
            "busy": len(serving & self.busy()),
            "workers": len(serving),
        }


def second_of(message: Stored) -> int:
    return (message.stored_at_ns - T0_NS) // 1_000_000_000


def history_of(messages: list[Stored]) -> list[dict[str, Any]]:
    count, found = Count(), []
    newest_s, position = second_of(messages[-1]), 0
    for minute in range(newest_s // MINUTE_S + 1):
        while position < len(messages) and second_of(messages[position]) < (minute + 1) * MINUTE_S:
            count.take(messages[position])
            position += 1
        for queue in sorted({*count.lanes.values()}):
            line = count.line(queue, min((minute + 1) * MINUTE_S, newest_s))
            found.append({**line, "minute": minute})
    return found


def utilization_of(messages: list[Stored]) -> dict[tuple[int, str], list[int]]:
    """Busy and available seconds by minute and agent, a second at a time."""
    count, found, position = Count(), dict[tuple[int, str], list[int]](), 0
    for second in range(second_of(messages[-1])):
        while second_of(messages[position]) <= second:
            count.take(messages[position])
            position += 1
        busy = count.busy()
        for key, worker in count.workers.items():
            if count.is_available(worker):
                cell = found.setdefault((second // MINUTE_S, worker.agent), [0, 0])
                cell[0] += key in busy
                cell[1] += 1
    return found


def minute_of(row: dict[str, Any]) -> int:
    return int((row["minute"].timestamp() - T0_NS / 1e9) // MINUTE_S)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("store") / "projection.duckdb"
    return lambda: empty_store(path, FLEET)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_views_by_minute_equal_a_count_event_by_event(stores: Any, seed: int) -> None:
    world = World()
    for step in steps(Random(seed)):
        world.step(step)
    messages = world.log.messages
    store: Store = stores()
    try:
        store.apply(messages)
        history = rows(store, "FROM queue_history")
        use = rows(store, "FROM utilization")
    finally:
        store.close()
    assert [{**row, "minute": minute_of(row)} for row in history] == history_of(messages)
    found = {(minute_of(r), r["agent_id"]): [r["busy_s"], r["available_s"]] for r in use}
    assert found == utilization_of(messages)
    assert all(r["utilization"] == r["busy_s"] / r["available_s"] for r in use)
