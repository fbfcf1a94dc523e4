"""Does what barriers and gates are owed, one act at a time; the rules are `bus/core/joins.py`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from fleetlog.bus.core import Queue, Refusal, RequestCancel, Task, decide
from fleetlog.bus.core.barrier import why_released
from fleetlog.bus.core.commands import GiveUp
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.core.join import (
    Abandon,
    Join,
    JoinAct,
    LoadMembers,
    LookAt,
    LookBack,
    MakeTask,
    ReadOn,
    Release,
    Tell,
    barrier_id_of,
)
from fleetlog.bus.core.joins import Joins
from fleetlog.bus.errors import ConflictError, ObjectLost, TransportError
from fleetlog.bus.fanning_out import first_append, load_members
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import EventLog, entry
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.envelope import Recorded, UnknownEvent, open_stored
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierOpened,
    BarrierReleased,
    TaskCompleted,
    TerminalEvent,
    verb_of,
)
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.objects import INLINE_MAX_BYTES
from fleetlog.schemas.subjects import Subject, guard

logger = logging.getLogger("fleetlog.coordinator")

AGAIN_S: Final = 1.0


class Joiner:
    """Carries out the acts of `Joins`.

    Args:
        fleet: whose log.
        joins: the fold.
        read_to: waits until the fold has taken the event with this sequence.
        changed: called when an act is done, as more may be owed although the fold has taken nothing.
        let_in: takes a task that waits for no other one any more, but has to be let in.
        placed: says of a command that queues a task where that is to be offered.
    """

    def __init__(
        self,
        fleet: Fleet,
        joins: Joins,
        read_to: Callable[[int], Awaitable[None]],
        changed: Callable[[], None],
        let_in: Callable[[Task], None],
        placed: Callable[[Task, AnyCommand], AnyCommand],
    ) -> None:
        self._fleet = fleet
        self._changed = changed
        self._let_in = let_in
        self._placed = placed
        self._joins = joins
        self._read_to = read_to

    async def do(self, act: JoinAct) -> None:
        """Does it; what can't be done for now comes again."""
        try:
            await self._do(act)
        except ConflictError:
            pass  # the event that was first is on its way to the fold
        except TransportError as error:
            logger.warning("a barrier has to wait: %s", error)
            await self._put_back(act)
        finally:
            self._changed()

    async def _put_back(self, act: JoinAct) -> None:
        await self._fleet.system.clock.sleep(AGAIN_S)
        self._joins.put_back(act)

    async def _do(self, act: JoinAct) -> None:
        match act:
            case MakeTask(join, member):
                await self._make(join, member)
            case LookAt(join, name, is_member):
                await self._look_at(join, name, is_member=is_member)
            case LoadMembers(join):
                await self._load(join)
            case ReadOn(join):
                await self._read_to(await self._fleet.log.end())
                self._joins.pass_deadline(join)
            case LookBack(barrier_id):
                await self._look_back(barrier_id)
            case Release():
                await self._release(act)
            case Abandon():
                await self._abandon(act)
            case Tell():
                await self._tell(act)

    async def _make(self, join: Join, member: Member) -> None:
        assert member.spec is not None
        await self._fleet.derived.ensure((member.spec,))
        try:
            seq = await self._fleet.log.append(first_append(self._fleet, join.id, member))
        except ConflictError:
            seq = 0
        # Its writer's event has the same id: what the fold has passed long ago looks like a success of ours.
        if seq <= self._joins.seq:
            await self._look_at(join, member.task_id, is_member=False)

    async def _look_at(self, join: Join, name: str, *, is_member: bool) -> None:
        barrier_id = barrier_id_of(name)
        kind, thing_id = ("task", name) if barrier_id is None else ("barrier", barrier_id)
        last = await self._fleet.log.last(guard(self._fleet.name, kind, thing_id))
        if last is None:
            if is_member:
                self._joins.miss(name)
            else:
                self._joins.find(join, name)
            return
        event = open_stored(last).event
        if isinstance(event, TerminalEvent):
            self._joins.settle(name, last.seq, event)
        elif isinstance(event, BarrierReleased | BarrierAbandoned):
            self._joins.settle_barrier(name, last.seq, event)
        else:
            self._joins.find(join, name)
        if name == join.then_id and last.subject.rpartition(".")[2] != "held":
            self._joins.note_continuation(join)

    async def _look_back(self, barrier_id: str) -> None:
        log = self._fleet.log
        last = await log.last(guard(log.fleet, "barrier", barrier_id))
        end = open_stored(last).event if last is not None else None
        if isinstance(end, UnknownEvent):
            self._joins.recall(barrier_id, None)  # a later version may know what it is
            return
        opening = await _opening(log, barrier_id)
        if opening is None:
            if await self._give_up_orphans(barrier_id):
                self._joins.recall(barrier_id, None)
        elif (
            last is not None
            and last.seq > opening.record.seq
            and isinstance(end, BarrierReleased | BarrierAbandoned)
        ):
            self._joins.recall(barrier_id, _ended(barrier_id, opening, last.seq, end))
        # Else the fold is about to open it, and takes in then what came before.

    async def _give_up_orphans(self, barrier_id: str) -> bool:
        """Ends what continues a barrier that is not there: the log has lost the event that opened it.

        Answers False while a task of that name may come to that event again.
        """
        log = self._fleet.log
        if not (orphans := self._joins.orphans(barrier_id)):
            return True
        opener = await log.last(guard(log.fleet, "task", barrier_id))
        outcome = open_stored(opener).event if opener is not None else None
        is_ended = isinstance(outcome, TerminalEvent) and getattr(outcome, "fan_out", None) is None
        if opener is not None and not is_ended:
            return False
        for task in orphans:
            command = GiveUp(
                id=f"{task.id}-{task.version}-give-up",
                error=f"barrier {barrier_id} is not in the log, whose server has lost its last second",
            )
            event = decide(command, task, log.now())
            if not isinstance(event, Refusal):
                subject = subject_of(log.fleet, task, event)
                with suppress(ConflictError):  # someone else was first, with this one of them
                    await log.append(entry(subject, task.version, event))
        return True

    async def _load(self, join: Join) -> None:
        try:
            members = await load_members(self._fleet.objects, join.plan)
        except ObjectLost as error:
            self._joins.lose_members(join, f"its members are not known: {error}")
            return
        self._joins.give_members(join, members)

    async def _release(self, act: Release) -> None:
        outcomes, ref = act.outcomes, None
        if len(data := msgspec.json.encode(outcomes)) > INLINE_MAX_BYTES:
            outcomes, ref = (), await self._fleet.objects.put(data)
        join, tally = act.join, act.tally
        event = BarrierReleased(
            id=f"{join.id}-{act.version}-released",
            occurred_at=self._fleet.log.now(),
            reason=why_released(join.plan, tally),
            opened=join.opened,
            expected=tally.expected,
            settled=tally.settled,
            succeeded=tally.succeeded,
            outcomes=outcomes,
            outcomes_ref=ref,
        )
        await self._append(join, act.version, event)

    async def _abandon(self, act: Abandon) -> None:
        join, tally = act.join, act.tally
        event = BarrierAbandoned(
            id=f"{join.id}-{act.version}-abandoned",
            occurred_at=self._fleet.log.now(),
            why=act.why,
            error=act.error,
            expected=tally.expected,
            settled=tally.settled,
            succeeded=tally.succeeded,
        )
        await self._append(join, act.version, event)

    async def _append(
        self, join: Join, version: int, event: BarrierReleased | BarrierAbandoned
    ) -> None:
        # The version it was decided in, not the present one: a barrier ends once.
        subject = Subject(self._fleet.name, "barrier", join.id, verb_of(event))
        try:
            seq = await self._fleet.log.append(entry(subject, version, event))
        except ConflictError:
            last = await self._fleet.log.last(guard(self._fleet.name, "barrier", join.id))
            if last is None:
                raise
            seq = last.seq
        if seq < join.opened:
            # It was under way when the server lost its last second, and what had opened the barrier with it.
            self._joins.pass_over(join, seq)
        else:
            self._fleet.hints.publish(join.id, seq)

    async def _tell(self, act: Tell) -> None:
        task = act.task
        if isinstance(act.command, Queue) and task.needs_admission:
            self._let_in(task)
            return
        event = decide(self._placed(task, act.command), task, self._fleet.log.now())
        if isinstance(event, Refusal):
            await self._put_back(act)  # a clock that was set back, perhaps: it is decided anew
            return
        await self._fleet.derived.ensure_for(event)
        subject = subject_of(self._fleet.name, task, event)
        seq = await self._fleet.log.append(entry(subject, task.version, event))
        if isinstance(event, TerminalEvent):
            self._fleet.hints.publish(task.id, seq)
        elif isinstance(act.command, RequestCancel) and task.lease is not None:
            self._fleet.hints.publish(task.id, seq, to=task.lease.agent_id)


class _Opening(NamedTuple):
    record: Recorded
    plan: FanOutSpec


async def _opening(log: EventLog, barrier_id: str) -> _Opening | None:
    """The event that named a barrier's members: its own first one, or the task's end whose id it has.

    None where the log has lost it; an end of the barrier that was under way then may be there all the same.
    """
    found = await log.read_thing(guard(log.fleet, "barrier", barrier_id))
    if found and isinstance(event := (first := open_stored(found[0])).event, BarrierOpened):
        return _Opening(first, event.fan_out)
    last = await log.last(guard(log.fleet, "task", barrier_id))
    if last is None:
        return None
    end = open_stored(last)
    plan = end.event.fan_out if isinstance(end.event, TaskCompleted) else None
    return None if plan is None else _Opening(end, plan)


def _ended(
    barrier_id: str, opening: _Opening, version: int, event: BarrierReleased | BarrierAbandoned
) -> Join:
    """A barrier that has ended, as far as what came late needs it."""
    record, plan = opening
    join = Join(
        id=barrier_id,
        plan=msgspec.structs.replace(plan, members=(), members_ref=None, then=None),
        opened=record.seq,
        opened_at=record.stored_at,
        stirred_at=record.stored_at,
        version=version,
        status="released",
    )
    if isinstance(event, BarrierAbandoned):
        join.status, join.why, join.error = "abandoned", event.why, event.error
    return join
