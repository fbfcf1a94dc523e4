"""What waits for sets of tasks: barriers, and tasks that are held until others have completed.

`Joins` is the part of the fold that follows them. No I/O and no clock: it takes events and says what is owed. A
slot is a member's place; it is settled by the event that gives the member's outcome, and a member that fans out
itself hands its slot on to its continuation. Slots are kept by the member's id, so that nothing counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from fleetlog.bus.core.agendas import Agendas
from fleetlog.bus.core.index import Index
from fleetlog.bus.core.join import Join, JoinAct, LookBack, barrier_name, gate_name
from fleetlog.bus.core.latecomers import Latecomers
from fleetlog.bus.core.task import Task
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
from fleetlog.schemas.fan_outs import FanOutSpec, Member, is_member_id
from fleetlog.schemas.specs import TaskSpec

CULPRITS_MAX: Final = 5
"""So many are named when a policy can't be met."""


class Joins:
    """All that wait for others.

    Args:
        tasks: the tasks that are not settled, by id; kept by the caller.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self.joins: dict[str, Join] = {}
        """By name."""
        self.seq = 0
        """The last event that was taken."""
        self._waiting: Index[str] = Index()
        self._touched: dict[str, None] = {}
        self._late = Latecomers()
        self._agendas = Agendas(self.joins, tasks)

    def restore(self, seq: int, joins: Iterable[Join]) -> None:
        """Begins with what a snapshot at event `seq` holds; the tasks must be there already."""
        self.seq = seq
        for join in joins:
            self._add(join)
            for waited_for in join.open:
                self._waiting.add(waited_for, join.name)
            agenda = self._agendas[join.name]
            agenda.looks.update(dict.fromkeys(sorted(join.followers), False))
            agenda.looks.update((each, True) for each, m in join.unseen.items() if m.spec is None)
            if join.is_ending:
                agenda.cancels.update(dict.fromkeys(sorted(join.own)))
        for task, spec in [(each, each.spec) for each in self._tasks.values()]:
            assert spec is not None
            self._check_late(task, spec)

    def packed(self) -> list[msgspec.Raw]:
        """Each as JSON, as it is now: they change with every event."""
        return [msgspec.Raw(msgspec.json.encode(join)) for join in self.joins.values()]

    def take_task(self, before: Task, task: Task, record: Recorded) -> None:
        """An event of a task was taken; `task` is the state that it led to."""
        event, self.seq = record.event, record.seq
        if before.status == "absent" and not task.is_settled and task.spec is not None:
            self._meet(task, task.spec, record)
        self._see(before, task, record)
        if task.is_settled and not before.is_settled and isinstance(event, TerminalEvent):
            self._late.forget(task)
            # What continues it, and had to wait as it might yet fan out, is looked into again.
            self._late.ask_again(task.id)
            if isinstance(event, TaskCompleted) and event.fan_out is not None:
                join = Join(id=task.id, plan=event.fan_out, **_opened(record))
                # Whoever asked for the task's end means what it leads to as well.
                join.is_unwanted = before.is_cancel_requested
                self._open(join)
            self._settle(task.id, record.seq, event, is_new=True)
        self._flush()

    def take_barrier(self, barrier_id: str, record: Recorded) -> bool:
        """An event of a barrier was taken. Answers whether its state allowed it."""
        event, join = record.event, self.joins.get(barrier_name(barrier_id))
        if isinstance(event, BarrierOpened):
            if join is not None:
                return False
            new = Join(
                id=barrier_id, plan=event.fan_out, parent_id=event.parent_id, **_opened(record)
            )
            new.version = record.seq
            self._open(new)
            self._flush()
            return True
        if join is None:
            return True  # ended, and gone from here
        join.version = record.seq
        self._touch(join)
        if join.status != "open" or not isinstance(event, BarrierReleased | BarrierAbandoned):
            return False
        self._end(join, event)
        self.settle_barrier(join.name, record.seq, event)
        return True

    def settle(self, task_id: str, seq: int, event: TerminalEvent) -> None:
        """The outcome of a task that the fold does not hold, as a look has shown."""
        self._settle(task_id, seq, event, is_new=False)
        self._flush()

    def settle_barrier(
        self, name: str, seq: int, event: BarrierReleased | BarrierAbandoned
    ) -> None:
        """How a barrier without a continuation has ended, from the log or from a look at it."""
        is_success = isinstance(event, BarrierReleased)
        self._settle_slots(name, seq, is_success=is_success, what=verb_of(event))
        self._flush()

    def find(self, join: Join, task_id: str) -> None:
        """A look has shown that there is no outcome yet: that will come by itself."""
        if join.unseen.pop(task_id, None) is not None or task_id in join.followers:
            join.followers.discard(task_id)
            self._touch(join)
        self._flush()

    def note_continuation(self, join: Join) -> None:
        """A look has shown that the continuation is not held any more."""
        join.continuation = "gone"
        self._touch(join)
        self._flush()

    def pass_over(self, join: Join, seq: int) -> None:
        """The barrier's last event is an end from before its beginning, which does not count."""
        join.version = seq
        self._touch(join)

    def miss(self, task_id: str) -> None:
        """There is no such task, and nobody could make it."""
        self._settle_slots(task_id, 0, is_success=False, what="does not exist")
        self._flush()

    def give_members(self, join: Join, members: Iterable[Member]) -> None:
        """The members that the object store held."""
        if not join.is_unread or self.joins.get(join.name) is not join:
            return  # they were given before
        join.is_unread = False
        self._add_members(join, members)
        if join.status != "open":
            self._prune(join)
        self._touch(join)
        self._flush()

    def lose_members(self, join: Join, why: str) -> None:
        """The object store does not hold the members, and never will."""
        join.is_unread, join.lost = False, why
        self._touch(join)
        self._flush()

    def pass_deadline(self, join: Join) -> None:
        """The log was read to an end that was asked for after the deadline."""
        if self.joins.get(join.name) is not join:
            return
        join.is_over = True
        self._agendas[join.name].cancels.update(dict.fromkeys(sorted(join.own)))
        self._touch(join)
        self._flush()

    def orphans(self, barrier_id: str) -> list[Task]:
        """Held tasks that continue a barrier of which the fold knows nothing."""
        late = [self._tasks[each] for each in self._late.of(barrier_id)]
        return [
            each for each in late if each.spec is not None and each.spec.continues == barrier_id
        ]

    def recall(self, barrier_id: str, ended: Join | None) -> None:
        """A barrier that the fold had let go, as the log tells of its end: what came late is its own.

        Args:
            barrier_id: which.
            ended: it, without members and continuation; None if there is none that has ended.
        """
        if ended is None or ended.name in self.joins:
            self._late.take(barrier_id)
            return
        self._add(ended)
        self._adopt(ended)
        self._flush()

    def acts(self, now: datetime, most: int) -> list[JoinAct]:
        """Up to `most` things that are owed or due, each only once for each state of what it concerns."""
        found: list[JoinAct] = [LookBack(each) for each in self._late.unasked(most)]
        found += self._agendas.acts(now, most - len(found), self._disown)
        self._flush()
        return found

    def put_back(self, act: JoinAct) -> None:
        """It could not be done: it comes again."""
        if isinstance(act, LookBack):
            self._late.ask_again(act.barrier_id)
        elif act.join.name in self.joins:
            self._agendas.put_back(act)
            self._touch(act.join)

    def next_at(self) -> datetime | None:
        """When something may come due."""
        return self._agendas.next_at()

    # What events do.

    def _add(self, join: Join) -> None:
        self.joins[join.name] = join
        self._agendas.open(join.name)
        for concerned in join.concerned:
            self._waiting.add(concerned, join.name)
        self._touch(join)

    def _open(self, join: Join) -> None:
        if join.name in self.joins:
            return
        members, plan = join.plan.members, join.plan
        join.plan = msgspec.structs.replace(plan, members=(), then=_alone(plan.then))
        join.continuation = "none" if plan.then is None else "unmade"
        join.slots = [0] * plan.count
        join.is_unread = plan.members_ref is not None
        self._add(join)
        if not join.is_unread:
            self._add_members(join, members)
        if not join.is_gate:
            self._adopt(join)

    def _adopt(self, join: Join) -> None:
        """Takes in what came before the barrier it belongs to was known."""
        for task in [self._tasks[each] for each in self._late.take(join.id)]:
            assert task.spec is not None
            if task.id == join.then_id:
                join.continuation = "held" if task.waits_for_tasks else "gone"
            elif task.id not in join.open:
                self._join_late(join, task, task.spec)

    def _open_gate(self, task: Task, spec: TaskSpec, record: Recorded) -> None:
        members = tuple(map(Member, dict.fromkeys(spec.after)))
        plan = FanOutSpec(count=len(members), members=members, policy="all", stragglers="wait")
        self._open(Join(id=task.id, is_gate=True, plan=plan, **_opened(record)))

    def _add_members(self, join: Join, members: Iterable[Member]) -> None:
        looks = self._agendas[join.name].looks
        count = 0
        for slot, member in enumerate(members):
            count += 1
            task = self._tasks.get(member.task_id)
            if task is None:
                join.unseen[member.task_id] = member
                if member.spec is None or member.task_id in join.early:
                    looks[member.task_id] = True
            self._await(join, member.task_id, [slot], is_own=join.has_made(task))
        # The members are what counts, whatever a foreign writer says of their number.
        join.plan = msgspec.structs.replace(join.plan, count=count)
        join.slots = [0] * count
        join.early = set()

    def _meet(self, task: Task, spec: TaskSpec, record: Recorded) -> None:
        """A task's first event: whose it is, and what it waits for."""
        if task.status == "held" and spec.after and spec.continues is None:
            self._open_gate(task, spec, record)
        self._check_late(task, spec)

    def _check_late(self, task: Task, spec: TaskSpec) -> None:
        """Members of a barrier that does not know them by their ids, or not any more; heirs too."""
        for barrier_id in _barriers_of(task, spec):
            join = self.joins.get(barrier_name(barrier_id))
            if join is None:
                self._late.add(barrier_id, task.id)
            elif task.id != join.then_id and task.id not in join.open:
                self._join_late(join, task, spec)

    def _join_late(self, join: Join, task: Task, spec: TaskSpec) -> None:
        if spec.continues == join.id and task.waits_for_tasks:
            join.heirs[task.id] = None
            self._waiting.add(task.id, join.name)
        elif join.is_unread:
            join.early.add(task.id)
            self._await(join, task.id, [], is_own=True)
        elif join.status != "open" and join.is_cancelling:
            self._await(join, task.id, [], is_own=True)
        self._touch(join)

    def _see(self, before: Task, task: Task, record: Recorded) -> None:
        """Whoever waits for the task, or made it, looks again."""
        is_first = before.status == "absent"
        for name in tuple(self._waiting.of(task.id)):
            join = self.joins[name]
            self._touch(join)
            if task.id == join.then_id:
                is_held = task.waits_for_tasks and task.spec and task.spec.continues == join.id
                join.continuation = "held" if is_held else "gone"
            if not task.waits_for_tasks and task.id in join.heirs:
                del join.heirs[task.id]
                self._waiting.discard(task.id, join.name)
                continue
            if is_first and join.unseen.pop(task.id, None) is not None:
                join.stirred_at = record.stored_at
            if is_first and task.id in join.open and join.has_made(task):
                join.own.add(task.id)
            if task.id in join.own and join.is_ending:
                self._agendas[name].cancels[task.id] = None
        if (gate := self.joins.get(gate_name(task.id))) is not None:
            self._touch(gate)

    def _end(self, join: Join, event: BarrierReleased | BarrierAbandoned) -> None:
        if isinstance(event, BarrierReleased):
            join.status = "released"
            if event.settled >= event.expected:
                join.unseen, join.is_unread = {}, False
        else:
            join.status, join.why, join.error = "abandoned", event.why, event.error
        join.slots = []
        self._prune(join)
        if join.is_cancelling:
            self._agendas[join.name].cancels.update(dict.fromkeys(sorted(join.own)))

    def _prune(self, join: Join) -> None:
        """Of a barrier that has ended only what it still has to make counts."""
        kept = join.unseen.items() if join.is_making else ()
        join.unseen = {each: member for each, member in kept if member.spec is not None}

    def _settle(self, task_id: str, seq: int, event: TerminalEvent, *, is_new: bool) -> None:
        fan_out = event.fan_out if isinstance(event, TaskCompleted) else None
        if fan_out is not None:
            follower = fan_out.then.task_id if fan_out.then else barrier_name(task_id)
            self._hand_on(task_id, follower, is_new=is_new)
            return
        what = verb_of(event)
        if isinstance(event, TaskFailed):
            what += f" ({event.error_class})"
        self._settle_slots(task_id, seq, is_success=isinstance(event, TaskCompleted), what=what)

    def _settle_slots(self, waited_for: str, seq: int, *, is_success: bool, what: str) -> None:
        for name in sorted(self._waiting.of(waited_for)):
            join = self.joins[name]
            for slot in self._close(join, waited_for):
                join.settled += 1
                join.succeeded += is_success
                if join.slots:
                    join.slots[slot] = seq
                if not is_success and len(join.culprits) < CULPRITS_MAX:
                    join.culprits.append(f"{waited_for} {what}")

    def _hand_on(self, waited_for: str, follower: str, *, is_new: bool) -> None:
        for name in sorted(self._waiting.of(waited_for)):
            join = self.joins[name]
            if waited_for not in join.open:
                continue
            is_own = waited_for in join.own
            self._await(join, follower, self._close(join, waited_for), is_own=is_own)
            if not is_new and not self._is_coming(follower):
                join.followers.add(follower)
                self._agendas[name].looks[follower] = False

    def _is_coming(self, follower: str) -> bool:
        """Whether the fold will see its end."""
        barrier = self.joins.get(follower)
        return follower in self._tasks or (barrier is not None and barrier.status == "open")

    def _await(self, join: Join, waited_for: str, slots: list[int], *, is_own: bool) -> None:
        join.open.setdefault(waited_for, []).extend(slots)
        if is_own:
            join.own.add(waited_for)
            if join.is_ending:
                self._agendas[join.name].cancels[waited_for] = None
        self._waiting.add(waited_for, join.name)

    def _close(self, join: Join, waited_for: str) -> list[int]:
        """The slots that are not open any more."""
        join.unseen.pop(waited_for, None)
        join.own.discard(waited_for)
        join.followers.discard(waited_for)
        slots = join.open.pop(waited_for, [])
        if waited_for not in join.concerned:
            self._waiting.discard(waited_for, join.name)
        self._touch(join)
        return slots

    # Who looks again, and what is over.

    def _touch(self, join: Join) -> None:
        self._agendas.touch(join.name)
        self._touched[join.name] = None

    def _disown(self, join: Join) -> None:
        """What it was part of has ended."""
        join.is_unwanted = True
        self._touch(join)

    def _flush(self) -> None:
        """Lets go what is over; not when acts are asked for, as nobody asks a standby."""
        touched, self._touched = self._touched, {}
        for name in touched:
            if (join := self.joins.get(name)) is not None and self._is_done(join):
                self._drop(join)

    def _is_done(self, join: Join) -> bool:
        if join.is_gate:
            task = self._tasks.get(join.id)
            return task is None or not task.waits_for_tasks
        if join.status == "open" or join.heirs or join.continuation in ("unmade", "held"):
            return False
        return not join.own if join.is_cancelling else not (join.unseen or join.is_unread)

    def _drop(self, join: Join) -> None:
        del self.joins[join.name]
        self._agendas.drop(join.name)
        for waited_for in (*join.open, *join.concerned):
            self._waiting.discard(waited_for, join.name)


def _opened(record: Recorded) -> dict[str, Any]:
    return {"opened": record.seq, "opened_at": record.stored_at, "stirred_at": record.stored_at}


def _alone(then: Member | None) -> Member | None:
    """Without the rest of the event that it came in, which its raw arguments would keep in memory."""
    if then is None or then.spec is None:
        return then
    spec = msgspec.structs.replace(then.spec, args=then.spec.args.copy())
    return msgspec.structs.replace(then, spec=spec)


def _barriers_of(task: Task, spec: TaskSpec) -> Iterable[str]:
    if spec.barrier_id is not None and is_member_id(spec.barrier_id, task.id, spec):
        yield spec.barrier_id
    if spec.continues is not None and task.waits_for_tasks:
        yield spec.continues
