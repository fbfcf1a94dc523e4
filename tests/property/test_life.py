"""A task's life under random commands of actors that look at old states, and under random foreign events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation.invariants import Tolerance
from support.judging import check_log

from fleetlog.bus.core import (
    LOSSES_MAX,
    Claim,
    Complete,
    Fail,
    Refusal,
    RequestCancel,
    Return,
    Submit,
    Task,
    decide,
    due,
    evolve,
    next_due_at,
    permits,
    resume,
)
from fleetlog.bus.core.commands import Cancel, Expire, GiveAnswer, OfferAgain, Queue
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.core.stuck import offer_again
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.envelope import Recorded, Stored, decode, encode
from fleetlog.schemas.events import (
    Event,
    TaskCancelRequested,
    TaskClaimed,
    TaskHeld,
    TaskQueued,
    TaskRetried,
    TaskReturned,
    TerminalEvent,
    WorkerSpawned,
)
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import Backoff, TaskSpec, payload_digest
from fleetlog.schemas.subjects import format_subject
from tests.given import NULL, T0, fold_records
from tests.property.strategies import OTHER_EVENTS, SPECS, STORED_AT, TASK_EVENTS, UNKNOWN

pytestmark = pytest.mark.usefixtures("unmeasured")

ACTORS = 4
TERMINAL = get_args(TerminalEvent)


class Step(msgspec.Struct, frozen=True):
    """One actor does one thing, perhaps on the strength of an old state."""

    actor: int
    act: str
    """`next` is what the state calls for, so that lives get long."""
    passes_ms: int
    """How much time passes before."""
    is_stale: bool
    """The actor acts on what it saw last."""
    is_from_offer: bool
    """It folds from the latest offer on, as an agent does on first delivery."""
    pick: int
    """Which fence or offer of those ever seen it names; mostly the live one."""
    flag: bool
    """A dead holder, or a permanent failure."""
    number: int
    """Jitter and delays come from it."""


STEPS = st.lists(
    st.builds(
        Step,
        actor=st.integers(0, ACTORS - 1),
        act=st.sampled_from(
            [
                *["next"] * 20,
                *(
                    "claim",
                    "claim",
                    "queue",
                    "again",
                    "due",
                    "due",
                    "complete",
                    "fail",
                    "return",
                    "lost",
                ),
                *("cancel", "request_cancel", "expire", "submit", "resubmit"),
                *("ask", "ask", "answer", "answer"),
            ]
        ),
        passes_ms=st.sampled_from([0, 0, 1, 900, 5_000]),
        is_stale=st.sampled_from([False, False, False, True]),
        is_from_offer=st.booleans(),
        pick=st.sampled_from([0, 0, 0, 0, 1, 2]),
        flag=st.booleans(),
        number=st.integers(0, 99),
    ),
    min_size=20,
    max_size=50,
)
RULES = st.builds(
    TaskSpec,
    handler=st.just("h"),
    max_attempts=st.integers(1, 4),
    backoff=st.builds(Backoff, first_ms=st.sampled_from([0, 1_000])),
    start_within_ms=st.sampled_from([None, None, None, 4_000]),
    expires_ms=st.sampled_from([None, None, None, 20_000]),
    delay_ms=st.sampled_from([0, 0, 3_000]),
    affinity=st.sampled_from([None, None, "key"]),
    affinity_ms=st.sampled_from([900, 5_000]),
)


class World:
    """One task's log with the server's check, and actors that each remember a state."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.now: datetime = T0
        self.log: list[Recorded] = []
        self.task = Task(id="t1")
        self.seen = [self.task] * ACTORS

    def run(self, step: Step) -> None:
        self.now += timedelta(milliseconds=step.passes_ms)
        if not step.is_stale:
            self.seen[step.actor] = self.read(is_from_offer=step.is_from_offer)
        view = self.seen[step.actor]
        command = self.command(step, view)
        event = None if command is None else decide(command, view, self.now)
        if event is None or isinstance(event, Refusal):
            return
        if view.version != self.task.version:  # The server refuses the append.
            self.seen[step.actor] = self.read()
            return
        self.append(event, gap=step.number % 3)
        self.seen[step.actor] = self.task

    def append(self, event: Any, gap: int) -> None:
        assert permits(self.task, event), "what is decided on the present state is allowed in it"
        read_back = decode(encode(event))
        assert read_back == event
        record = Recorded(self.task.version + 1 + gap, self.now, None, read_back)
        before, self.task = self.task, evolve(self.task, record)
        self.log.append(record)
        self.check(before, record)

    def check(self, before: Task, record: Recorded) -> None:
        task = self.task
        assert not before.is_settled, "nothing is appended to a settled task"
        if before.question is not None and isinstance(record.event, TaskQueued):
            assert len(task.answers) == len(before.answers) + 1, "only an answer moves it on"
        assert task.question is None or (task.status == "waiting" and task.due_at is None)
        assert task.version == record.seq > before.version
        assert (task.lease is not None) == (task.status == "claimed")
        assert before.attempts <= task.attempts <= before.attempts + 1
        assert task.failures <= self.spec.max_attempts - (not task.is_settled)
        assert task.losses <= LOSSES_MAX - (not task.is_settled)
        if isinstance(record.event, TaskClaimed):
            assert task.lease is not None
            assert task.lease.fence == record.seq
            assert before.lease is None or before.lease.fence < task.lease.fence
            assert before.lease is None or record.event.over == before.lease.fence
            assert task.lease.attempt == record.event.attempt == task.attempts
            assert not before.is_cancel_requested, "no attempt starts once its end was asked for"

    def read(self, *, is_from_offer: bool = False) -> Task:
        offers = [i for i, record in enumerate(self.log) if isinstance(record.event, TaskQueued)]
        return fold_records(self.log[offers[-1] if is_from_offer and offers else 0 :])

    def command(self, step: Step, view: Task) -> AnyCommand | None:
        fence, offer = self.names(step.pick, view)
        end: dict[str, Any] = {"id": "c", "fence": fence}
        act = _act(step, view)
        match act:
            case "submit" | "resubmit":
                return self.submit(other=step.act == "resubmit")
            case "queue" | "again":
                again = OfferAgain(id="c", offer=offer, host=view.host)
                return again if act == "again" else Queue(id="c")
            case "due":
                return resume(view) or self.placed(view)
            case "claim":
                agent = f"a{step.actor}"
                place = {"agent_id": agent, "worker_id": "w", "host": "h"}
                return Claim(id="c", offer=offer, over=fence if step.flag else None, **place)
            case "complete":
                return Complete(result=NULL, **end)
            case "fail":
                jitter = step.number / 100
                why = {
                    "error_class": "error",
                    "error": "no",
                    "is_permanent": step.flag and step.number < 5,
                }
                return Fail(jitter=jitter, **why, **end)
            case "return" | "lost":
                why = {"error_class": "lost" if act == "lost" else "drained", "error": "no"}
                return Return(delay_ms=step.number, **why, **end)
            case "ask":
                asked = Question(text=f"question {step.number}", choices=("yes",) * step.flag)
                return Return(error_class="needs_input", error="?", question=asked, **end)
            case "answer":
                return GiveAnswer(id="c", asked=view.asked, answer="yes" if step.flag else 7)
            case "cancel":
                return Cancel(**end) if view.is_cancel_requested else None
            case "request_cancel":
                return RequestCancel(id="c")
            case _:
                return Expire(id="c")

    def placed(self, view: Task) -> AnyCommand | None:
        """What time brings; who has an affinity is offered to one host first."""
        command = due(view, self.now)
        if isinstance(command, Queue) and self.spec.affinity and view.status != "queued":
            return msgspec.structs.replace(command, host="h", session_id="s")
        return command

    def submit(self, *, other: bool) -> Submit:
        spec = msgspec.structs.replace(self.spec, handler="other") if other else self.spec
        return Submit(id="c", spec=spec, digest=payload_digest(spec))

    def names(self, pick: int, view: Task) -> tuple[int, int]:
        if pick == 0:
            return (view.lease.fence if view.lease else view.version), view.offer
        seqs = [0, *(record.seq for record in self.log)]
        return seqs[-pick % len(seqs)], seqs[-pick % len(seqs)]


def _act(step: Step, view: Task) -> str:
    if step.act != "next":
        return step.act
    if view.status == "queued":
        return "claim"
    if view.is_cancel_requested and step.number % 2:
        return "cancel"
    if view.question is not None and step.number % 4:
        return "answer"
    if view.status == "claimed":
        return ("fail", "lost", "return", "claim", "complete")[min(step.number // 24, 4)]
    return "due"


def lived(spec: TaskSpec, steps: list[Step]) -> World:
    world = World(spec)
    world.append(decide(world.submit(other=False), world.task, world.now), gap=0)
    for step in steps:
        world.run(step)
    return world


@given(RULES, STEPS)
def test_no_mix_of_actors_breaks_a_promise(spec: TaskSpec, steps: list[Step]) -> None:
    """The promises themselves are asserted at each append, in `World.check`."""
    log = lived(spec, steps).log
    events = [record.event for record in log]
    assert sum(isinstance(event, TERMINAL) for event in events) <= 1
    assert sum(isinstance(event, TaskRetried) for event in events) < spec.max_attempts
    # What is offered again may be so at once here.
    check_log(stored(log), tolerance=Tolerance(stuck_ms=0), is_quiet=False)


def stored(log: list[Recorded]) -> Iterator[Stored]:
    """As a server keeps it: each event with an id of its own, and something else in each gap."""
    task, seq = Task(id="t1"), 0
    for record in log:
        at_ns = round(record.stored_at.timestamp() * 1_000) * 1_000_000
        for gap in range(seq + 1, record.seq):
            other = WorkerSpawned(id=f"w{gap}", occurred_at=record.stored_at, host="h", pid=1)
            yield Stored(gap, at_ns, "fleetlog.main.worker.a.w.spawned", encode(other))
        seq, event = record.seq, record.event
        assert isinstance(event, Event)
        data = encode(msgspec.structs.replace(event, id=f"t{seq}"))
        yield Stored(seq, at_ns, format_subject(subject_of("main", task, event)), data)  # type: ignore[arg-type] # a task's
        task = evolve(task, record)


@given(RULES, STEPS)
def test_a_fold_from_any_offer_is_the_whole_fold(spec: TaskSpec, steps: list[Step]) -> None:
    """Every field is the same, `submitted_at` and the counts included: an offer carries them."""
    log = lived(spec, steps).log
    whole = fold_records(log)
    for place, record in enumerate(log):
        if isinstance(record.event, TaskQueued):
            assert fold_records(log[place:]) == whole


@given(RULES, STEPS)
def test_what_comes_due_is_known_before(spec: TaskSpec, steps: list[Step]) -> None:
    log = lived(spec, steps).log
    for length in range(len(log) + 1):
        task = fold_records(log[:length])
        instant = next_due_at(task)
        if instant is None:
            assert due(task, T0 + timedelta(days=9_999)) is None
        else:
            assert due(task, instant - timedelta(microseconds=1)) is None
            command = due(task, instant)
            assert command is not None
            assert not isinstance(decide(command, task, instant), Refusal)


@given(RULES, STEPS, st.integers(0, 3))
def test_a_task_left_to_the_clock_and_one_agent_settles(
    spec: TaskSpec, steps: list[Step], losses: int
) -> None:
    """From any state, time and a single agent that fails every attempt lead to an outcome."""
    world = lived(spec, steps)
    for turn in range(60):
        task = world.task
        if task.is_settled:
            break
        instant = next_due_at(task)
        if task.status == "queued":
            command: Any = Claim(id="c", offer=task.offer, agent_id="a", worker_id="w", host="h")
        elif task.lease is not None and turn < losses:
            end: dict[str, Any] = {"fence": task.lease.fence, "error_class": "lost"}
            command = Return(id="c", error="gone", **end)
        elif task.lease is not None:
            end = {"fence": task.lease.fence, "error_class": "error", "jitter": 0.5}
            command = Fail(id="c", error="no", **end)
        else:
            assert instant is not None
            world.now = max(world.now, instant)
            command = resume(task) or due(task, world.now)
        event = decide(command, task, world.now)
        assert not isinstance(event, Refusal)
        world.append(event, gap=0)
    assert world.task.is_settled


RAW = st.lists(
    st.tuples(
        st.one_of(*TASK_EVENTS.values(), *TASK_EVENTS.values(), UNKNOWN, *OTHER_EVENTS.values()),
        STORED_AT,
        st.integers(-2, 2),
    ),
    max_size=25,
)


def _placed(items: list[Any]) -> list[Recorded]:
    """Sequences mostly grow by one, and sometimes repeat or jump back as a redelivery does."""
    records: list[Recorded] = []
    seq = 0
    for event, stored_at, jump in items:
        seq = max(1, seq + (1 if jump >= -1 else -2) + (jump == 2) * 3)
        records.append(Recorded(seq, stored_at, None, event))
    return records


EXPECTED: dict[str, list[type[Event]]] = {
    "absent": [TaskHeld, TaskQueued],
    "held": [TaskQueued],
    "queued": [TaskClaimed, TaskClaimed, TaskClaimed, TaskQueued],
    "claimed": [TaskClaimed, TaskRetried, TaskReturned, TaskReturned, TaskCancelRequested],
    "waiting": [TaskQueued],
}


@st.composite
def _nearly_lawful(draw: st.DrawFn) -> list[Recorded]:
    """Wild fields, but mostly the verbs, fences and offers that fit, so that lives get long."""
    records: list[Recorded] = []
    task = Task(id="t1")
    for _ in range(draw(st.integers(3, 20))):
        kinds = EXPECTED.get(task.status, []) if draw(st.integers(0, 9)) else []
        event = draw(TASK_EVENTS[draw(st.sampled_from(kinds or list(TASK_EVENTS)))])
        if draw(st.integers(0, 9)):
            fence = task.lease.fence if task.lease else None
            if isinstance(event, TaskClaimed):
                event = msgspec.structs.replace(event, offer=task.offer, over=fence)
            elif hasattr(event, "fence"):
                event = msgspec.structs.replace(event, fence=fence)
        record = Recorded(task.version + 1, draw(STORED_AT), None, event)
        records.append(record)
        task = evolve(task, record)
    return records


def _check_raw(records: list[Recorded]) -> None:
    task = Task(id="t1")
    fences: list[int] = []
    changes = 0
    for record in records:
        before, task = task, evolve(task, record)
        assert task.version == max(before.version, record.seq)
        is_new = record.seq > before.version
        frozen = msgspec.structs.replace(task, version=before.version) == before
        assert frozen or (is_new and permits(before, record.event))
        assert frozen or not before.is_settled, "a settled task stays settled"
        assert (task.lease is not None) == (task.status == "claimed")
        assert task.is_settled == (task.outcome is not None)
        if task.lease is not None and task.lease.fence not in fences:
            fences.append(task.lease.fence)
        changes += isinstance(record.event, TERMINAL) and not frozen
    assert fences == sorted(fences)
    assert changes <= 1


@given(RAW)
def test_no_events_in_any_order_stop_a_fold_or_unsettle_a_task(items: list[Any]) -> None:
    _check_raw(_placed(items))


@given(_nearly_lawful())
def test_no_foreign_history_stops_a_fold_or_unsettles_a_task(records: list[Recorded]) -> None:
    _check_raw(records)


@given(_nearly_lawful(), STORED_AT, SPECS)
def test_every_command_has_an_answer_in_every_foreign_state(
    records: list[Recorded], now: datetime, spec: TaskSpec
) -> None:
    task = fold_records(records)
    fence = task.lease.fence if task.lease else 0
    end: dict[str, Any] = {"id": "c", "fence": fence}
    why = {"error_class": "lost", "error": "gone"}
    place = {"agent_id": "a", "worker_id": "w", "host": "h", "offer": task.offer}
    commands: list[AnyCommand | None] = [
        *(Submit(id="c", spec=spec, digest=payload_digest(spec)), Queue(id="c")),
        *(offer_again(task), OfferAgain(id="c", offer=task.version)),
        *(Claim(id="c", **place), Claim(id="c", over=fence, **place)),  # type: ignore[arg-type]  # one dict of all fields
        *(Complete(result=NULL, **end), Cancel(**end), RequestCancel(id="c"), Expire(id="c")),
        *(Fail(jitter=0.5, **why, **end), Return(**why, **end), due(task, now), resume(task)),
    ]
    for command in commands:
        if command is not None:
            event = decide(command, task, now)
            if not isinstance(event, Refusal):
                assert permits(task, event)
                assert decode(encode(event)) == event
    instant = next_due_at(task)
    assert due(task, now) is None or (instant is not None and instant <= now)


COUNTED = (
    *("attempts", "failures", "losses", "submitted_at"),
    *("is_cancel_requested", "cancel_reason"),
)
"""What a foreign offer may say otherwise than the history before it, which a fold from it does not see."""


@given(_nearly_lawful())
def test_a_fold_from_a_foreign_offer_differs_only_in_what_the_offer_says_of_its_past(
    records: list[Recorded],
) -> None:
    task, last = Task(id="t1"), None
    for place, record in enumerate(records):
        if isinstance(record.event, TaskQueued) and permits(task, record.event):
            last = place
        task = evolve(task, record)
    if last is not None:
        assert _uncounted(fold_records(records[last:])) == _uncounted(task)


def _uncounted(task: Task) -> dict[str, Any]:
    fields = {name: getattr(task, name) for name in task.__struct_fields__ if name not in COUNTED}
    if task.lease is not None:
        fields["lease"] = msgspec.structs.replace(task.lease, attempt=0)
    return fields
