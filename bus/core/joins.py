"""What waits for sets of tasks: barriers, and tasks that are held until others have completed.

`Joins` is the part of the fold that follows them. No I/O and no clock: it takes events and says what is owed. A
slot is a member's place; it is settled by the event that gives the member's outcome, and a member that fans out
itself hands its slot on to its continuation. Slots are kept by the member's id, so that nothing counts twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from fleetlog.bus.core.barrier import Tally, verdict
from fleetlog.bus.core.commands import GiveUp, Queue, RequestCancel
from fleetlog.bus.core.task import Task, instant_after
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierOpened,
    BarrierReleased,
    TaskCompleted,
    TaskFailed,
    TerminalEvent,
    verb_of,
)
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.specs import TaskSpec

PATIENCE_MS: Final = 1_000
"""A writer that made no further member for so long has died: the coordinator makes the others."""
CULPRITS_MAX: Final = 5
"""So many are named when a policy can't be met."""


class Join(msgspec.Struct, kw_only=True):
    """One barrier, or one task with `after`, as the log tells it. Changed by `Joins` alone."""

    id: str
    """The barrier's, or the waiting task's."""
    is_gate: bool = False
    """It is a task with `after`: its own next event is all that follows."""
    plan: FanOutSpec
    """Without its members."""
    opened: int
    """The sequence of the event that named the members."""
    opened_at: datetime
    """When the log stored it."""
    parent_id: str | None = None
    """The task that waits for it, running."""
    version: int = 0
    """The sequence of the barrier's last event."""
    status: Literal["open", "released", "abandoned"] = "open"
    """Where it is in its life."""
    why: str = ""
    """See `BarrierAbandoned.why`."""
    error: str = ""
    """Why it was abandoned, for people."""
    is_unwanted: bool = False
    """Someone ended its continuation, or it was part of something that ended."""
    is_unread: bool = False
    """The members are in the object store and have not been read yet."""
    is_over: bool = False
    """Its deadline has passed, as the whole log up to then shows."""
    continuation: Literal["none", "unmade", "held", "gone"] = "none"
    """What is known of it; gone: on its way, or ended."""
    slots: list[int] = []
    """For each member in order, the event that settled it; 0 while it is open."""
    open: dict[str, int] = {}
    """What is waited for, a task's id or a barrier's name, and its slot."""
    own: set[str] = set()
    """Of these, what the fan-out made: only that is cancelled with it."""
    unseen: dict[str, Member] = {}
    """Members of which nothing is known yet."""
    followers: dict[str, None] = {}
    """What open slots were handed on to long ago, so that the log must be asked."""
    settled: int = 0
    """Slots that are settled."""
    succeeded: int = 0
    """Those of them with success."""
    culprits: list[str] = []
    """The first that settled without."""
    stirred_at: datetime
    """When the log last held something new about its members' first events."""

    @property
    def name(self) -> str:
        """Its key among all joins; no task has such an id."""
        return _gate_name(self.id) if self.is_gate else barrier_name(self.id)

    @property
    def then_id(self) -> str | None:
        """Its continuation's id."""
        return self.plan.then.task_id if self.plan.then is not None else None

    @property
    def is_cancelling(self) -> bool:
        """Whether what it made and is still open ends with it."""
        return self.plan.stragglers == "cancel" or self.why in ("cancelled", "parent")

    @property
    def tally(self) -> Tally:
        """How far it is."""
        return Tally(len(self.slots), self.settled, self.succeeded)

    @property
    def deadline_at(self) -> datetime | None:
        """When open members are cancelled."""
        if self.plan.deadline_ms is None:
            return None
        return instant_after(self.opened_at, self.plan.deadline_ms)


class MakeTask(msgspec.Struct, frozen=True):
    """Append the first event of a member or of a continuation, which its writer has not."""

    join: Join
    member: Member


class LookAt(msgspec.Struct, frozen=True):
    """Read what the fold does not hold: a task, or a barrier by its name."""

    join: Join
    name: str
    is_member: bool
    """It must be there; else it is what a member's slot was handed on to."""


class LoadMembers(msgspec.Struct, frozen=True):
    """Fetch the members from the object store."""

    join: Join


class ReadOn(msgspec.Struct, frozen=True):
    """The deadline has passed: read the log to an end asked for now, then say so."""

    join: Join


class Release(msgspec.Struct, frozen=True):
    """Append `barrier.released`."""

    join: Join


class Abandon(msgspec.Struct, frozen=True):
    """Append `barrier.abandoned`."""

    join: Join
    why: str
    error: str


class Tell(msgspec.Struct, frozen=True):
    """A command for a task."""

    join: Join
    task: Task
    command: Queue | GiveUp | RequestCancel


JoinAct = MakeTask | LookAt | LoadMembers | ReadOn | Release | Abandon | Tell


class Joins:
    """All that wait for others.

    Args:
        tasks: the tasks that are not settled, by id; kept by the caller.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self.joins: dict[str, Join] = {}
        """By name."""
        self._waiting: dict[str, set[str]] = {}
        self._dirty: dict[str, None] = {}
        self._sent: dict[str, set[object]] = {}
        self._timers: list[tuple[datetime, str]] = []

    def restore(self, joins: Iterable[Join]) -> None:
        """Begins with what a snapshot holds; the tasks must be there already."""
        for join in joins:
            self.joins[join.name] = join
            for waited_for in (*join.open, *self._concerned(join)):
                self._waiting.setdefault(waited_for, set()).add(join.name)
            self._dirty[join.name] = None

    def packed(self) -> list[msgspec.Raw]:
        """Each as JSON, as it is now: they change with every event."""
        return [msgspec.Raw(msgspec.json.encode(join)) for join in self.joins.values()]

    def take_task(self, before: Task, task: Task, record: Recorded) -> None:
        """An event of a task was taken; `task` is the state that it led to."""
        event = record.event
        if self._waiting:
            self._see(before, task, record)
        if task.status == "held" and before.status == "absent" and task.spec and task.spec.after:
            self._open_gate(task, task.spec, record)
        if not task.is_settled or before.is_settled or not isinstance(event, TerminalEvent):
            self._stir(task.id)
            return
        if isinstance(event, TaskCompleted) and event.fan_out is not None:
            self._open(Join(id=task.id, plan=event.fan_out, **_opened(record)))
        self.settle(task.id, record.seq, event)
        self._stir(task.id)

    def take_barrier(self, barrier_id: str, record: Recorded) -> bool:
        """An event of a barrier was taken. Answers whether its state allowed it."""
        event, join = record.event, self.joins.get(barrier_name(barrier_id))
        if isinstance(event, BarrierOpened):
            if join is not None:
                return False
            self._open(
                Join(
                    id=barrier_id,
                    plan=event.fan_out,
                    parent_id=event.parent_id,
                    version=record.seq,
                    **_opened(record),
                )
            )
            return True
        if join is None:
            return True  # ended, and gone from here
        join.version = record.seq
        self._dirty[join.name] = None
        if join.status != "open":
            return False
        if isinstance(event, BarrierReleased):
            join.status = "released"
        elif isinstance(event, BarrierAbandoned):
            join.status, join.why, join.error = "abandoned", event.why, event.error
        else:
            return False
        self.settle_barrier(join.name, record.seq, event)
        return True

    def settle(self, task_id: str, seq: int, event: TerminalEvent) -> None:
        """The task's outcome, from the log or from a look at a task that the fold does not hold."""
        fan_out = event.fan_out if isinstance(event, TaskCompleted) else None
        if fan_out is not None:
            follower = fan_out.then.task_id if fan_out.then else barrier_name(task_id)
            self._hand_on(task_id, follower)
            return
        what = verb_of(event)
        if isinstance(event, TaskFailed):
            what += f" ({event.error_class})"
        self._settle_slots(task_id, seq, is_success=isinstance(event, TaskCompleted), what=what)

    def settle_barrier(
        self, name: str, seq: int, event: BarrierReleased | BarrierAbandoned
    ) -> None:
        """How a barrier without a continuation has ended, from the log or from a look at it."""
        is_success = isinstance(event, BarrierReleased)
        self._settle_slots(name, seq, is_success=is_success, what=verb_of(event))

    def note_continuation(self, join: Join) -> None:
        """A look has shown that the continuation is not held any more."""
        join.continuation = "gone"
        self._dirty[join.name] = None

    def miss(self, task_id: str) -> None:
        """There is no such task, and nobody could make it."""
        self._settle_slots(task_id, 0, is_success=False, what="does not exist")

    def give_members(self, join: Join, members: Iterable[Member]) -> None:
        """The members that the object store held."""
        join.is_unread = False
        self._add_members(join, members)
        self._dirty[join.name] = None

    def pass_deadline(self, join: Join) -> None:
        """The log was read to an end that was asked for after the deadline."""
        join.is_over = True
        self._dirty[join.name] = None

    def acts(self, now: datetime, most: int) -> list[JoinAct]:
        """About `most` things that are owed or due, each only once for each state of what it concerns."""
        while self._timers and self._timers[0][0] <= now:
            self._dirty[heapq.heappop(self._timers)[1]] = None
        found: list[JoinAct] = []
        while self._dirty and len(found) < most:
            name = next(iter(self._dirty))
            del self._dirty[name]
            if (join := self.joins.get(name)) is None:
                continue
            sent = self._sent.setdefault(name, set())
            for act in self._owed(join, now):
                if (mark := _mark(act)) not in sent:
                    sent.add(mark)
                    found.append(act)
                if len(found) >= most:
                    self._dirty[name] = None
                    break
        return found

    def put_back(self, act: JoinAct) -> None:
        """It could not be done: it comes again."""
        self._sent.get(act.join.name, set()).discard(_mark(act))
        self._dirty[act.join.name] = None

    def next_at(self) -> datetime | None:
        """When something may come due."""
        return self._timers[0][0] if self._timers else None

    # What events do.

    def _open(self, join: Join) -> None:
        if join.name in self.joins:
            return
        members, plan = join.plan.members, join.plan
        join.continuation = "none" if plan.then is None else "unmade"
        join.plan = msgspec.structs.replace(plan, members=())
        join.slots = [0] * plan.count
        join.is_unread = plan.members_ref is not None
        self.joins[join.name] = join
        self._dirty[join.name] = None
        for concerned in self._concerned(join):
            self._waiting.setdefault(concerned, set()).add(join.name)
        if (deadline_at := join.deadline_at) is not None:
            self._wake(deadline_at, join)
        self._add_members(join, members)

    def _open_gate(self, task: Task, spec: TaskSpec, record: Recorded) -> None:
        members = tuple(map(Member, dict.fromkeys(spec.after)))
        plan = FanOutSpec(count=len(members), members=members, policy="all", stragglers="wait")
        self._open(Join(id=task.id, is_gate=True, plan=plan, **_opened(record)))

    def _add_members(self, join: Join, members: Iterable[Member]) -> None:
        for slot, member in enumerate(members):
            task = self._tasks.get(member.task_id)
            if task is None:
                join.unseen[member.task_id] = member
            self._await(join, member.task_id, slot, is_own=_is_own(join, task))
        if join.unseen:
            self._wake(instant_after(join.stirred_at, PATIENCE_MS), join)

    def _see(self, before: Task, task: Task, record: Recorded) -> None:
        for name in self._waiting.get(task.id, ()):
            join = self.joins[name]
            if task.id == join.then_id:
                join.continuation = "held" if task.waits_for_tasks else "gone"
            if before.status != "absent":
                continue
            if task.id in join.unseen:
                del join.unseen[task.id]
                join.stirred_at = record.stored_at
            if task.id in join.open and _is_own(join, task):
                join.own.add(task.id)

    def _stir(self, task_id: str) -> None:
        """Something that a join depends on has changed: who waits for it looks again."""
        self._dirty |= dict.fromkeys(sorted(self._waiting.get(task_id, ())))
        if (gate := _gate_name(task_id)) in self.joins:
            self._dirty[gate] = None

    def _settle_slots(self, waited_for: str, seq: int, *, is_success: bool, what: str) -> None:
        for name in sorted(self._waiting.get(waited_for, ())):
            join = self.joins[name]
            if (slot := self._close(join, waited_for)) is None:
                continue
            join.slots[slot] = seq
            join.settled += 1
            join.succeeded += is_success
            if not is_success and len(join.culprits) < CULPRITS_MAX:
                join.culprits.append(f"{waited_for} {what}")

    def _hand_on(self, waited_for: str, follower: str) -> None:
        for name in sorted(self._waiting.get(waited_for, ())):
            join = self.joins[name]
            is_own = waited_for in join.own
            if (slot := self._close(join, waited_for)) is None:
                continue
            self._await(join, follower, slot, is_own=is_own)
            if barrier_name(waited_for) not in self.joins:
                join.followers[follower] = None

    def _await(self, join: Join, waited_for: str, slot: int, *, is_own: bool) -> None:
        join.open[waited_for] = slot
        if is_own:
            join.own.add(waited_for)
        self._waiting.setdefault(waited_for, set()).add(join.name)

    def _close(self, join: Join, waited_for: str) -> int | None:
        """The slot that is not open any more; None if it was not."""
        join.unseen.pop(waited_for, None)
        join.own.discard(waited_for)
        slot = join.open.pop(waited_for, None)
        if waited_for not in self._concerned(join):
            self._ignore(join, waited_for)
        self._dirty[join.name] = None
        return slot

    def _ignore(self, join: Join, waited_for: str) -> None:
        if (names := self._waiting.get(waited_for)) is not None:
            names.discard(join.name)
            if not names:
                del self._waiting[waited_for]

    def _concerned(self, join: Join) -> list[str]:
        """The tasks whose events it must hear of, beside its members."""
        return [each for each in (join.then_id, join.parent_id) if each is not None]

    def _wake(self, at: datetime, join: Join) -> None:
        heapq.heappush(self._timers, (at, join.name))

    # What is owed.

    def _owed(self, join: Join, now: datetime) -> Iterator[JoinAct]:
        if join.is_unread:
            yield LoadMembers(join)
            return
        if join.is_gate:
            yield from self._owed_by_gate(join, now)
            return
        yield from self._missing(join, now)
        if join.status == "open":
            yield from self._owed_while_open(join, now)
            return
        yield from self._owed_at_the_end(join, now)
        is_continued = join.continuation in ("none", "gone")
        if is_continued and not join.unseen and not (join.own and join.is_cancelling):
            self._drop(join)

    def _owed_by_gate(self, join: Join, now: datetime) -> Iterator[JoinAct]:
        task = self._tasks.get(join.id)
        if task is None or not task.waits_for_tasks:
            self._drop(join)
            return
        yield from self._missing(join, now)
        match verdict(join.plan, join.tally):
            case "release" if task.due_at is not None and task.due_at > now:
                self._wake(task.due_at, join)
            case "release":
                yield Tell(join, task, Queue(id=_derived(task, "open"), is_open=True))
            case "fail":
                yield Tell(join, task, GiveUp(id=_derived(task, "give-up"), error=_blame(join)))
            case "wait":
                pass

    def _missing(self, join: Join, now: datetime) -> Iterator[JoinAct]:
        """Members that nobody has seen: who should have made them may be dead, or they were there before."""
        for name in join.followers:
            yield LookAt(join, name, is_member=False)
        if not join.unseen:
            return
        patient_until = instant_after(join.stirred_at, PATIENCE_MS)
        if now < patient_until:
            self._wake(patient_until, join)
        is_making = join.status == "open" or not join.is_cancelling
        for task_id, member in list(join.unseen.items()):
            if member.spec is None:
                yield LookAt(join, task_id, is_member=True)
            elif now >= patient_until and is_making:
                yield MakeTask(join, member)
            elif now >= patient_until:
                self._close(join, task_id)  # it will never be: who was to make it has had its time

    def _owed_while_open(self, join: Join, now: datetime) -> Iterator[JoinAct]:
        if (unwanted := self._unwanted(join)) is not None:
            yield unwanted
            return
        is_over = join.is_over and not join.own and not join.unseen
        match verdict(join.plan, join.tally, is_over=is_over):
            case "release":
                yield Release(join)
                return
            case "fail":
                yield Abandon(join, "policy", _blame(join))
                return
            case "wait":
                pass
        if join.continuation == "unmade":
            yield from self._continuation(join, now)
        if join.is_over:
            yield from self._cancels(join, "the barrier's deadline passed")
        elif (deadline_at := join.deadline_at) is not None and deadline_at <= now:
            yield ReadOn(join)

    def _unwanted(self, join: Join) -> Abandon | None:
        if join.is_unwanted or join.continuation == "gone":
            return Abandon(join, "cancelled", "it was cancelled")
        if join.parent_id is not None and join.parent_id not in self._tasks:
            return Abandon(join, "parent", f"task {join.parent_id}, which waited for it, has ended")
        return None

    def _continuation(self, join: Join, now: datetime) -> Iterator[JoinAct]:
        patient_until = instant_after(join.stirred_at, PATIENCE_MS)
        if now >= patient_until or join.status != "open":
            assert join.plan.then is not None
            yield MakeTask(join, join.plan.then)
        else:
            self._wake(patient_until, join)

    def _owed_at_the_end(self, join: Join, now: datetime) -> Iterator[JoinAct]:
        if join.continuation == "unmade":
            yield from self._continuation(join, now)
        elif join.continuation == "held":
            assert join.then_id is not None
            task = self._tasks[join.then_id]
            yield Tell(join, task, _next_of(join, task))
        if join.is_cancelling:
            yield from self._cancels(join, f"the barrier was {join.status}")

    def _cancels(self, join: Join, reason: str) -> Iterator[JoinAct]:
        for each in list(join.own):
            if (other := self.joins.get(each)) is not None:
                other.is_unwanted = True
                self._dirty[other.name] = None
            task = self._tasks.get(each)
            if task is not None and not task.is_cancel_requested:
                command = RequestCancel(id=_derived(task, "end"), cause=join.id, reason=reason)
                yield Tell(join, task, command)

    def _drop(self, join: Join) -> None:
        del self.joins[join.name]
        self._sent.pop(join.name, None)
        for waited_for in (*join.open, *self._concerned(join)):
            self._ignore(join, waited_for)


def barrier_name(barrier_id: str) -> str:
    """What a barrier is called among the things that are waited for; no task has such an id."""
    return f"barrier {barrier_id}"


def barrier_id_of(name: str) -> str | None:
    """The barrier that a name means; None if it means a task."""
    kind, _, barrier_id = name.rpartition(" ")
    return barrier_id if kind == "barrier" else None


def _gate_name(task_id: str) -> str:
    return f"gate {task_id}"


def _opened(record: Recorded) -> dict[str, Any]:
    return {"opened": record.seq, "opened_at": record.stored_at, "stirred_at": record.stored_at}


def _is_own(join: Join, task: Task | None) -> bool:
    return task is not None and task.spec is not None and task.spec.barrier_id == join.id


def _next_of(join: Join, task: Task) -> Queue | GiveUp | RequestCancel:
    if join.status == "released":
        return Queue(id=_derived(task, "release"), cause=join.id, is_open=True)
    if join.why in ("cancelled", "parent"):
        return RequestCancel(
            id=_derived(task, "abandon"), cause=join.id, reason="its barrier was cancelled"
        )
    return GiveUp(id=_derived(task, "abandon"), cause=join.id, error=join.error)


def _blame(join: Join) -> str:
    more = join.settled - join.succeeded - len(join.culprits)
    names = ", ".join(join.culprits) + (f" and {more} more" if more > 0 else "")
    return (
        f"{join.succeeded} of {len(join.slots)} completed, too few for {join.plan.policy}: {names}"
    )


def _derived(task: Task, act: str) -> str:
    return f"{task.id}-{task.version}-{act}"


def _mark(act: JoinAct) -> object:
    """What makes two acts the same one in the same state."""
    match act:
        case MakeTask():
            return (type(act), act.member.task_id)
        case LookAt():
            return (type(act), act.name)
        case Tell():
            return (act.task.id, act.task.version)
        case _:
            return (type(act), act.join.version)
