"""A small fleet in memory, for random schedules: writers that die, agents, coordinators with old folds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from fleetlog.bus.admitting import Admitter
from fleetlog.bus.core import Refusal, Submit, Task, decide, evolve
from fleetlog.bus.core.admission_acts import AdmissionAct, Admit, Exhaust
from fleetlog.bus.core.commands import Cancel, Claim, Complete, Fail, RequestCancel, Return
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.core.join import JoinAct
from fleetlog.bus.core.joins import Joins
from fleetlog.bus.derived import DerivedQueues
from fleetlog.bus.errors import ConflictError, PublishUnknown, TransportError, Unavailable
from fleetlog.bus.fanning_out import append_first
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.joining import Joiner
from fleetlog.bus.log import Append, entry
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.bus.objects import MemoryObjects
from fleetlog.bus.rules import subject_of
from fleetlog.bus.snapshots import Snapshots
from fleetlog.bus.system import System
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Recorded, open_stored
from fleetlog.schemas.events import (
    AgentStarted,
    BarrierAbandoned,
    BarrierOpened,
    BudgetSet,
    CredentialPaused,
    CredentialResumed,
    LimitSet,
    Usage,
    verb_of,
)
from fleetlog.schemas.fan_outs import FanOutSpec, plan_digest
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import TaskSpec, payload_digest
from fleetlog.schemas.subjects import Subject
from tests.given import NULL, T0

USD = 1_000_000


def kept_by(joins: Joins) -> dict[str, int]:
    """How many of each thing the fold of joins, and what is on the way for them, hold."""
    late, agendas = joins._late, joins._agendas
    held = {"joins": joins.joins, "waiting": joins._waiting}
    held |= {"late": late._by_barrier, "asked": late._asked}
    held |= {"agendas": agendas._by_name, "dirty": agendas._dirty, "alarms": agendas._alarms._set}
    return {name: len(each) for name, each in held.items()}


class WorldClock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.at = T0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - T0).total_seconds()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0)

    def pass_ms(self, ms: int) -> None:
        self.at += timedelta(milliseconds=ms)


class LossyLog(MemoryLog):
    """Loses requests or answers when it is told to."""

    def __init__(self, clock: WorldClock) -> None:
        super().__init__(clock=clock)
        self.trouble = ""
        self.refusal: Exception | None = None
        """What every single append ends with."""

    def append(self, entry: Append) -> asyncio.Future[int]:
        if self.refusal is not None:
            refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            refused.set_exception(self.refusal)
            return refused
        trouble, self.trouble = self.trouble, ""
        if trouble == "request":
            failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            failed.set_exception(Unavailable("the request was lost"))
            return failed
        return self._heard(super().append(entry), trouble)

    def append_together(self, entries: Sequence[Append]) -> asyncio.Future[int]:
        trouble, self.trouble = self.trouble, ""
        if trouble == "request":
            failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            failed.set_exception(Unavailable("the request was lost"))
            return failed
        return self._heard(super().append_together(entries), trouble)

    def _heard(self, answer: asyncio.Future[int], trouble: str) -> asyncio.Future[int]:
        if trouble == "answer" and answer.exception() is None:
            answer = asyncio.get_running_loop().create_future()
            answer.set_exception(PublishUnknown("the answer was lost"))
        return answer


class _Hints:
    def publish(self, *_: object, **__: object) -> None:
        pass


class Seat:
    """One coordinator: what it has read, and acts it has decided on and not done yet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.waiting: list[JoinAct | AdmissionAct] = []
        self.begin(Unsettled())

    def begin(self, unsettled: Unsettled) -> None:
        self.fold = unsettled
        self.waiting.clear()
        self.joiner = Joiner(
            self.fleet,
            unsettled.joins,
            self._read_to,
            lambda: None,
            let_in=unsettled.let_in,
            placed=unsettled.placed,
        )
        self.admitter = Admitter(
            self.fleet, unsettled.admission, self._read_to, lambda: None, unsettled.placed
        )

    async def read(self, most: int = 10**9) -> None:
        async for page in self.fleet.log.read(after=self.fold.seq):
            for stored in page[:most]:
                self.fold.take(stored)

    async def _read_to(self, seq: int) -> None:
        await self.read(max(0, seq - self.fold.seq))

    def plan(self, most: int = 1000) -> int:
        before = len(self.waiting)
        self.waiting += self.fold.joins.acts(self.fleet.log.now(), most)
        self.waiting += self.fold.admission.acts(self.fleet.log.now(), most)
        return len(self.waiting) - before

    async def do(self, pick: int = 0) -> None:
        if not self.waiting:
            return
        act = self.waiting.pop(pick % len(self.waiting))
        if isinstance(act, Admit | Exhaust):
            await self.admitter.do(act)
        else:
            await self.joiner.do(act)

    async def finish(self) -> None:
        """Reads everything, and does what is owed then."""
        await self.read()
        self.plan()
        while self.waiting:
            await self.do()

    async def act(self) -> int:
        """What is due for single tasks."""
        acts = self.fold.acts(self.fleet.log.now(), 1000)
        for task, command in acts:
            event = decide(command, task, self.fleet.log.now())
            if isinstance(event, Refusal):
                continue
            subject = subject_of(self.fleet.name, task, event)
            try:
                await self.fleet.log.append(entry(subject, task.version, event))
            except ConflictError:
                continue
            except TransportError:
                self.fold.put_back(task, self.fleet.log.now())
        return len(acts)

    async def save(self) -> None:
        if self.fold.seq:
            await Snapshots(self.fleet.objects, self.fleet.log).save(self.fold)

    async def restore(self) -> None:
        self.begin(await Snapshots(self.fleet.objects, self.fleet.log).load() or Unsettled())


class World:
    """The log, and everybody who writes to it."""

    def __init__(self, seats: int = 2) -> None:
        self.clock = WorldClock()
        self.log = LossyLog(self.clock)
        self.objects = MemoryObjects()
        nothing: Any = None
        hints: Any = _Hints()
        self.fleet = Fleet(
            name="main",
            log=self.log,
            offers=nothing,
            beats=nothing,
            outputs=nothing,
            objects=self.objects,
            hints=hints,
            services=nothing,
            system=System(clock=self.clock),
            link=nothing,
            room=nothing,
            durability="always",
            derived=DerivedQueues(self.log, System(clock=self.clock)),
        )
        self.seats = [Seat(self.fleet) for _ in range(seats)]
        self.has_cancelled = False
        self.kept: dict[str, bytes] = {}
        """Every object that there was, by digest."""
        self._writers: list[tuple[str, FanOutSpec]] = []
        self._count = 0

    def new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def records(self) -> list[Recorded]:
        return [open_stored(stored) for stored in self.log._messages]

    def tasks(self) -> dict[str, Task]:
        """Every task, as the whole log tells."""
        found: dict[str, Task] = {}
        for record in self.records():
            if record.subject is not None and record.subject.kind == "task":
                task = found.get(record.subject.id) or Task(id=record.subject.id)
                found[task.id] = evolve(task, record)
        return found

    async def tell(self, task: Task, command: AnyCommand) -> None:
        event = decide(command, task, self.log.now())
        if not isinstance(event, Refusal):
            subject = subject_of("main", task, event)
            await self.log.append(entry(subject, task.version, event))

    async def submit(self, spec: TaskSpec) -> str:
        task_id = self.new_id("t")
        command = Submit(id=task_id, spec=spec, digest=payload_digest(spec))
        await self.tell(Task(id=task_id), command)
        return task_id

    async def replace(self, task: Task, spec: TaskSpec) -> None:
        new = Submit(
            id=self.new_id("n"), spec=spec, digest=self.new_id("d"), on_duplicate="replace"
        )
        await self.tell(task, new)

    async def claim(self, task: Task) -> None:
        place = {"agent_id": "a", "worker_id": "w", "host": "h"}
        await self.tell(task, Claim(id=self.new_id("c"), offer=task.offer, **place))

    async def finish(self, task: Task, *, how: str) -> None:
        assert task.lease is not None
        end: dict[str, Any] = {"id": self.new_id("e"), "fence": task.lease.fence}
        if how == "cancel" or (how == "obey" and task.is_cancel_requested):
            await self.tell(task, Cancel(**end))
        elif how == "return":
            why = {"error_class": "drained", "error": "no"}
            await self.tell(task, Return(**why, **end))
        elif how == "ask":
            question = Question(text="really?")
            why = {"error_class": "needs_input", "error": question.text}
            await self.tell(task, Return(question=question, **why, **end))
        elif how == "retry":
            why = {"error_class": "error", "error": "no"}
            await self.tell(task, Fail(jitter=0.5, **why, **end))
        elif how == "fail":
            why = {"error_class": "error", "error": "no"}
            await self.tell(task, Fail(jitter=0.5, is_permanent=True, **why, **end))
        else:
            usage = Usage(output_tokens=1, cost_micro_usd=USD)
            await self.tell(task, Complete(result=NULL, usage=usage, **end))

    async def start_agent(self, workers: int, reserve_high: int = 0) -> None:
        """The one that `claim` claims for; tasks under budgets wait for a free slot of it."""
        event = AgentStarted(
            id="a",
            occurred_at=self.log.now(),
            host="h",
            pid=1,
            version="1",
            queues=("default",),
            labels={"gpu": "yes"},
            workers=workers,
            concurrency=1,
            reserve_high=reserve_high,
        )
        await self.log.append(entry(Subject("main", "agent", "a", "started"), 0, event))

    async def set_bound(self, kind: str, event: LimitSet | BudgetSet) -> None:
        token = key_token(event.key)
        last = await self.log.last(f"fleetlog.main.{kind}.{token}.>")
        subject = Subject("main", kind, token, "set")
        await self.log.append(entry(subject, last.seq if last else 0, event))

    async def say_of_credential(
        self, name: str, *, is_paused: bool, until: datetime | None = None
    ) -> None:
        event: CredentialPaused | CredentialResumed
        stamp: dict[str, Any] = {"id": self.new_id("p"), "occurred_at": self.log.now()}
        if is_paused:
            event = CredentialPaused(error_class="usage_limit", error="no", until=until, **stamp)
        else:
            event = CredentialResumed(**stamp)
        last = await self.log.last(f"fleetlog.main.credential.{name}.>")
        subject = Subject("main", "credential", name, verb_of(event))
        await self.log.append(entry(subject, last.seq if last else 0, event))

    async def spread(self, task: Task, plan: FanOutSpec, *, made: int, is_large: bool) -> None:
        """The task completes with a fan-out; its agent dies after so many members."""
        assert task.lease is not None
        named = await self._stored(plan) if is_large else plan
        command = Complete(id=self.new_id("e"), fence=task.lease.fence, result=NULL, fan_out=named)
        await self.tell(task, command)
        await self.make(task.id, plan, made)

    async def open(
        self, plan: FanOutSpec, barrier_id: str, *, made: int, is_large: bool, parent: str | None
    ) -> None:
        event = BarrierOpened(
            id=self.new_id("e"),
            occurred_at=self.log.now(),
            fan_out=await self._stored(plan) if is_large else plan,
            digest=plan_digest(plan),
            parent_id=parent,
        )
        await self.log.append(entry(self._subject(barrier_id, event), 0, event))
        await self.make(barrier_id, plan, made)

    async def make(self, barrier_id: str, plan: FanOutSpec, count: int) -> None:
        """A writer's part; the continuation last. It may go on with the rest at any later time, or never."""
        self._writers.append((barrier_id, plan))
        members = [each for each in plan.members if each.spec is not None]
        if plan.then is not None:
            members.append(plan.then)
        await append_first(self.fleet, barrier_id, members[:count])

    async def go_on(self, pick: int) -> None:
        """A writer that had been away for a while."""
        if self._writers:
            barrier_id, plan = self._writers.pop(pick % len(self._writers))
            await self.make(barrier_id, plan, 99)

    def lose(self, pick: int) -> None:
        """Someone removes an object."""
        if self.objects.held and (
            digests := [d for d in sorted(self.kept) if d in self.objects.held]
        ):
            del self.objects.held[digests[pick % len(digests)]]

    async def abandon(self, barrier_id: str) -> None:
        """As a client does it that has just looked."""
        self.has_cancelled = True
        last = await self.log.last(f"fleetlog.main.barrier.{barrier_id}.>")
        if last is not None and not isinstance(open_stored(last).event, BarrierOpened):
            return
        event = BarrierAbandoned(
            id=self.new_id("e"), occurred_at=self.log.now(), why="cancelled", error="no more"
        )
        subject = self._subject(barrier_id, event)
        await self.log.append(entry(subject, last.seq if last else 0, event))

    async def cancel(self, task: Task) -> None:
        self.has_cancelled = True
        await self.tell(task, RequestCancel(id=self.new_id("e")))

    def _subject(self, barrier_id: str, event: Any) -> Subject:
        return Subject("main", "barrier", barrier_id, verb_of(event))

    async def _stored(self, plan: FanOutSpec) -> FanOutSpec:
        data = msgspec.json.encode(plan.members)
        ref = await self.objects.put(data)
        self.kept[ref.sha256] = data
        return msgspec.structs.replace(plan, members=(), members_ref=ref)
