"""The SQL that folds tasks and the pure core make the same of every log, however it is cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.expected_tasks import Expected, fold, task_row
from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.bus.core import (
    AgentState,
    Claim,
    Complete,
    Fail,
    Hold,
    OfferAgain,
    Queue,
    RequestCancel,
    Return,
    Submit,
    Task,
    decide,
    evolve,
    evolve_agent,
)
from fleetlog.bus.core.commands import Cancel, Expire, GiveAnswer
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.queues import Queues
from fleetlog.projections.store import Store
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import (
    AgentDraining,
    AgentLost,
    AgentStopped,
    Event,
    QueuePaused,
    QueueResumed,
    QueueScaled,
    TaskCancelled,
    TaskCancelRequested,
    TaskClaimed,
    TaskCompleted,
    TaskExpired,
    TaskFailed,
    TaskHeld,
    TaskQueued,
    TaskRetried,
    TaskReturned,
    Usage,
)
from fleetlog.schemas.objects import ObjectRef
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import TaskSpec, payload_digest
from tests.unit.projections.histories import FLEET, Log, make, started

pytestmark = pytest.mark.usefixtures("unmeasured")

TASKS = 3
REF = ObjectRef(sha256="0f" * 32, size=5_000_000_000)


class Step(msgspec.Struct, frozen=True):
    """One thing that happens: `what` to task `who`; `near` picks a sequence, `twist` a variant."""

    who: int
    what: str
    near: int
    twist: int


LAWFUL = (
    "submit",
    "claim",
    "complete",
    "fail",
    "return",
    "cancel",
    "end",
    "queue",
    "expire",
    "take",
    "recall",
    "again",
    "answer",
)
LAWLESS = (
    *("held", "queued", "claimed", "retried", "returned", "completed", "failed", "cancelled"),
    *("expired", "cancel_requested", "unknown", "garbage", "future", "misplaced"),
)
steps = st.lists(
    st.builds(
        Step,
        who=st.integers(0, TASKS - 1),
        what=st.sampled_from(LAWFUL * 3 + LAWLESS),
        near=st.integers(0, 7),
        twist=st.integers(0, 7),
    ),
    max_size=40,
)


class World:
    """Writes a log as the fleet would, and as nobody should."""

    def __init__(self, first: int) -> None:
        self.log = Log(first)
        self.first = first
        self.tasks = [Task(id=f"t{first}-{n}") for n in range(TASKS)]

    def step(self, step: Step) -> None:
        task = self.tasks[step.who]
        if step.what in LAWFUL:
            event = decide(_command(step, task), task, _now(self.log))
            if not isinstance(event, Event):
                return
            self.log.task(task.id, event)
        else:
            self._break(step, task)
        self.tasks[step.who] = evolve(task, open_stored(self.log.messages[-1]))

    def _break(self, step: Step, task: Task) -> None:
        lane = ("default.normal", "other.high")[step.twist % 2]
        subject = f"task.{task.id}.{lane}.queued"
        match step.what:
            case "unknown":
                self.log.raw(subject, b'{"type":"task.paused","id":"e","v":1}')
            case "garbage":
                self.log.raw(
                    subject,
                    (b"{", b"\xff\xfe", b"", b"[]", b"\x00", b'"\xc3', b"7", b"null")[step.near],
                )
            case "future":
                self.log.raw(subject, b'{"type":"task.held","id":"e","v":2,"spec":{"handler":"h"}}')
            case "misplaced":
                self.log.raw(
                    subject,
                    b'{"type":"agent.draining","id":"e","v":1,"occurred_at":"2026-01-01T00:00:00Z"}',
                )
            case what:
                self.log.task(task.id, _event(what, self._seq(step, task), step.twist), lane)

    def _seq(self, step: Step, task: Task) -> int | None:
        fence = task.lease.fence if task.lease else None
        near = (task.offer, fence, None, task.version, self.log.next_seq)
        return near[step.near] if step.near < len(near) else self.log.next_seq - step.near


def _now(log: Log) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=log.next_seq)


def _spec(twist: int) -> TaskSpec:
    match twist:
        case 0:
            return TaskSpec(handler="greet", delay_ms=2_000)
        case 1:
            return TaskSpec(
                handler="é'\"\\ \n", labels={"team": "blue", "é": ""}, key="k", timeout_ms=None
            )
        case 2:
            return TaskSpec(
                handler="sh",
                executor="command",
                args=msgspec.Raw(b'{"argv":["a"]}'),
                requires={"gpu": "yes", "é": "ü"},
            )
        case 3:
            return TaskSpec(
                handler="slow",
                start_within_ms=3_000,
                max_attempts=1,
                parent_id="p",
                limits=("api", "user:é"),
            )
        case 4:
            budget = Budget(tokens=5, action="stop")
            return TaskSpec(handler="slow", expires_ms=6_000, budgets=("b",), budget=budget)
        case 5:
            return TaskSpec(handler="large", args_ref=REF, barrier_id="b", after=("x", "y"))
        case 6:
            return TaskSpec(
                handler="greet", continues="b", fair_key="ann", affinity="shop", schedule="nightly"
            )
        case _:
            return TaskSpec(handler="greet")


def _command(step: Step, task: Task) -> AnyCommand:
    fence = task.lease.fence if task.lease else 1
    usage = Usage(input_tokens=3, cost_micro_usd=1_500_001) if step.twist % 2 else None
    ending: dict[str, Any] = {"id": "c", "fence": fence, "ran_ms": step.near, "usage": usage}
    place = {"agent_id": f"a{step.near}", "worker_id": f"w{step.twist}", "host": "h"}
    match step.what:
        case "submit":
            spec = _spec(step.twist)
            return Submit(id="c", spec=spec, digest=payload_digest(spec))
        case "claim" | "take":
            over = fence if step.what == "take" else None
            return Claim(id="c", offer=task.offer, over=over, **place)
        case "complete":
            if step.near == 2:
                return Complete(result=msgspec.Raw(b"null"), result_ref=REF, **ending)
            return Complete(
                result=msgspec.Raw((b"null", b'{"a":[1,"x"]}')[step.near % 2]), **ending
            )
        case "fail":
            return Fail(
                error_class="error", error="no", jitter=0.5, is_permanent=step.near == 7, **ending
            )
        case "answer":
            return GiveAnswer(id="c", asked=task.asked, answer="b")
        case "return":
            return _return(step, ending)
        case "cancel":
            return RequestCancel(id="c")
        case "end":
            return Cancel(**ending)
        case "recall" | "again":
            again = OfferAgain(id="c", offer=task.offer, host=task.host)
            return again if step.what == "again" else Hold(id="c")
        case "queue":
            return Queue(id="c", is_admitted=True, is_open=step.twist % 2 == 1)
        case _:
            return Expire(id="c")


def _return(step: Step, ending: dict[str, Any]) -> Return:
    if step.near in (4, 5):
        asked = Question(text="which?", choices=("a", "b")[step.near - 4 :])
        return Return(error_class="needs_input", error="which?", question=asked, **ending)
    return Return(error_class=("lost", "drained")[step.near % 2], error="gone", **ending)


def _event(what: str, seq: int | None, twist: int) -> Event:
    ending = {"attempts": twist, "fence": seq}
    error = {"error_class": ("lost", "error", "needs_input")[twist % 3], "error": "illegal"}
    spec = _spec(twist)
    match what:
        case "held":
            return make(TaskHeld, spec=spec, digest="x")
        case "queued":
            counts = {"attempt": twist + 1, "failures": twist, "losses": twist // 2}
            at = datetime(2025, 1, 1, tzinfo=UTC) if twist % 2 else None
            return make(TaskQueued, spec=spec, digest="x", submitted_at=at, **counts)
        case "claimed":
            over = seq if twist % 2 else None
            place = {"agent_id": "bad", "worker_id": "bad", "host": "bad"}
            return make(TaskClaimed, attempt=twist, offer=seq or 0, over=over, **place)
        case "retried":
            return make(TaskRetried, delay_ms=_delay_ms(twist), **error, **ending)
        case "returned":
            return make(TaskReturned, delay_ms=_delay_ms(twist), **error, **ending)
        case "completed":
            return make(TaskCompleted, digest="y", result=msgspec.Raw(b'"illegal"'), **ending)
        case "failed":
            return make(TaskFailed, digest="y", **error, **ending)
        case "cancelled":
            return make(TaskCancelled, digest="y", **ending)
        case "expired":
            return make(TaskExpired, limit="expires", digest="y", **ending)
        case _:
            return make(TaskCancelRequested)


def _delay_ms(twist: int) -> int:
    return (0, 1_000, 2_000, 60_000, -5_000, 10**14, 10**18, 7)[twist]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all examples: each goes on where the last one ended, with tasks of its own."""
    made = empty_store(tmp_path_factory.mktemp("store") / "projection.duckdb", FLEET)
    yield made
    made.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps, cuts=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_every_column_is_what_the_core_says(
    store: Store, steps: list[Step], cuts: list[int]
) -> None:
    world = World(store.checkpoint.seq + 1)
    for step in steps:
        world.step(step)
    for batch in _cut(world.log.messages, cuts):
        store.apply(batch)

    violations: set[int] = set()
    for task in world.tasks:
        expected = fold(task.id, world.log.messages)
        assert _tasks(store, task.id) == _expected_task(expected)
        assert _attempts(store, task.id) == expected.attempts
        violations |= expected.not_permitted
    found = rows(store, f"FROM events WHERE seq >= {world.first}")
    assert {row["seq"] for row in found} == {message.seq for message in world.log.messages}
    assert {r["seq"] for r in found if r["is_violation"] or r["problem"]} == violations


agent_words = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(("started", "draining", "stopped", "lost"))),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=agent_words, cuts=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_agents_are_what_the_core_says(
    store: Store, words: list[tuple[int, str]], cuts: list[int]
) -> None:
    log = Log(store.checkpoint.seq + 1)
    names = [f"a{log.next_seq}-{n}" for n in range(2)]
    for which, word in words:
        log.agent(names[which], _agent_event(word))
    for batch in _cut(log.messages, cuts):
        store.apply(batch)
    for name in names:
        agent = AgentState(id=name)
        for record in map(open_stored, log.messages):
            if record.subject is not None and record.subject.id == name:
                agent = evolve_agent(agent, record)
        found = rows(store, f"SELECT state, ended_at FROM agents WHERE agent_id = '{name}'")
        if agent.status == "absent":
            assert found == []
        else:
            assert [row["state"] for row in found] == [agent.status]
            assert [row["ended_at"] is not None for row in found] == [agent.is_ended]


def _agent_event(word: str) -> Event:
    match word:
        case "started":
            return started()
        case "draining":
            return make(AgentDraining)
        case "stopped":
            return make(AgentStopped)
        case _:
            return make(AgentLost, silent_ms=3_100)


words = st.lists(
    st.tuples(
        st.integers(0, 1), st.sampled_from(("paused", "resumed", "scaled", "unknown", "misplaced"))
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=words, cuts=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_queues_are_what_the_core_says(
    store: Store, words: list[tuple[int, str]], cuts: list[int]
) -> None:
    log = Log(store.checkpoint.seq + 1)
    names = [f"q{log.next_seq}-{n}" for n in range(2)]
    for which, word in words:
        _say_of_queue(log, names[which], word)
    for batch in _cut(log.messages, cuts):
        store.apply(batch)
    queues = Queues()
    queues.take(log.messages)
    for name in names:
        state = queues.states.get(name)
        found = rows(store, f"FROM queues WHERE queue = '{name}'")
        if state is None or state.seq == 0:
            assert found == []
        else:
            expected = msgspec.structs.asdict(state)
            for name_of_another_table in ("version", "base", "requires"):
                del expected[name_of_another_table]
            assert found == [expected]


def _say_of_queue(log: Log, name: str, word: str) -> None:
    who = {"actor": f"ann {log.next_seq}", "reason": f"because {log.next_seq}"}
    match word:
        case "paused":
            log.queue(name, make(QueuePaused, **who))
        case "resumed":
            log.queue(name, make(QueueResumed, actor="bob"))
        case "scaled":
            workers = {"workers_before": 1, "workers_after": 2}
            log.queue(name, make(QueueScaled, agent_id="a", host="h", reason="why", **workers))
        case "unknown":
            log.raw(f"queue.{name}.scaled", b'{"type":"queue.scaled","id":"e","v":1}')
        case _:
            log.raw(f"queue.{name}.paused", b'{"type":"agent.draining","id":"e","v":1}')


def _cut(messages: list[Stored], cuts: list[int]) -> Iterator[list[Stored]]:
    position, turn = 0, 0
    while position < len(messages):
        size = cuts[turn % len(cuts)]
        yield messages[position : position + size]
        position, turn = position + size, turn + 1


def _expected_task(expected: Expected) -> list[dict[str, Any]]:
    row = task_row(expected)
    return [] if row is None else [row]


def _tasks(store: Store, task_id: str) -> list[dict[str, Any]]:
    columns = list(_expected_task(Expected(Task(id="x", status="queued")))[0])
    return rows(store, f"SELECT {', '.join(columns)} FROM tasks WHERE task_id = '{task_id}'")


def _attempts(store: Store, task_id: str) -> list[dict[str, Any]]:
    columns = (
        "attempt, fence, offer, host, agent_id, worker_id, queued_at, claimed_at, ended_at, outcome,"
        " error_class, ran_ms"
    )
    where = f"WHERE task_id = '{task_id}' ORDER BY fence"
    return rows(store, f"SELECT {columns} FROM attempts {where}")
