"""Does what barriers and gates are owed, one act at a time; the rules are `bus/core/joins.py`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from fleetlog.bus.core import Refusal, RequestCancel, decide
from fleetlog.bus.core.barrier import why_released
from fleetlog.bus.core.joins import (
    Abandon,
    Join,
    JoinAct,
    Joins,
    LoadMembers,
    LookAt,
    MakeTask,
    ReadOn,
    Release,
    Tell,
    barrier_id_of,
)
from fleetlog.bus.errors import ConflictError, ObjectLost, TransportError
from fleetlog.bus.fanning_out import append_first, load_members
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import entry
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierReleased,
    TerminalEvent,
    verb_of,
)
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
        changed: called when more may be owed although the fold has taken nothing.
    """

    def __init__(
        self,
        fleet: Fleet,
        joins: Joins,
        read_to: Callable[[int], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._fleet = fleet
        self._changed = changed
        self._joins = joins
        self._read_to = read_to

    async def do(self, act: JoinAct) -> None:
        """Does it; what can't be done for now comes again."""
        try:
            await self._do(act)
        except ConflictError:
            return  # the event that was first is on its way to the fold
        except TransportError as error:
            logger.warning("barrier %s has to wait: %s", act.join.id, error)
            await self._fleet.system.clock.sleep(AGAIN_S)
            self._joins.put_back(act)
        self._changed()

    async def _do(self, act: JoinAct) -> None:
        match act:
            case MakeTask(join, member):
                if await append_first(self._fleet, join.id, [member]):
                    await self._look_at(join, member.task_id, is_member=False)
            case LookAt(join, name, is_member):
                await self._look_at(join, name, is_member=is_member)
            case LoadMembers(join):
                await self._load(join)
            case ReadOn(join):
                await self._read_to(await self._fleet.log.end())
                self._joins.pass_deadline(join)
            case Release(join):
                await self._release(join)
            case Abandon(join, why, error):
                await self._abandon(join, why, error)
            case Tell():
                await self._tell(act)

    async def _look_at(self, join: Join, name: str, *, is_member: bool) -> None:
        barrier_id = barrier_id_of(name)
        kind, thing_id = ("task", name) if barrier_id is None else ("barrier", barrier_id)
        last = await self._fleet.log.last(guard(self._fleet.name, kind, thing_id))
        if last is None:
            if is_member:
                self._joins.miss(name)
            return
        event = open_stored(last).event
        if isinstance(event, TerminalEvent):
            self._joins.settle(name, last.seq, event)
        elif isinstance(event, BarrierReleased | BarrierAbandoned):
            self._joins.settle_barrier(name, last.seq, event)
        if name == join.then_id and last.subject.rpartition(".")[2] != "held":
            self._joins.note_continuation(join)

    async def _load(self, join: Join) -> None:
        try:
            members = await load_members(self._fleet.objects, join.plan)
        except ObjectLost as error:
            await self._abandon(join, "policy", f"its members are not known: {error}")
            return
        self._joins.give_members(join, members)

    async def _release(self, join: Join) -> None:
        outcomes, ref = tuple(join.slots), None
        if len(data := msgspec.json.encode(outcomes)) > INLINE_MAX_BYTES:
            outcomes, ref = (), await self._fleet.objects.put(data)
        tally = join.tally
        event = BarrierReleased(
            id=f"{join.id}-{join.version}-released",
            occurred_at=self._fleet.log.now(),
            reason=why_released(join.plan, tally),
            opened=join.opened,
            expected=tally.expected,
            settled=tally.settled,
            succeeded=tally.succeeded,
            outcomes=outcomes,
            outcomes_ref=ref,
        )
        await self._append(join, event)

    async def _abandon(self, join: Join, why: str, error: str) -> None:
        tally = join.tally
        event = BarrierAbandoned(
            id=f"{join.id}-{join.version}-abandoned",
            occurred_at=self._fleet.log.now(),
            why=why,
            error=error,
            expected=tally.expected,
            settled=tally.settled,
            succeeded=tally.succeeded,
        )
        await self._append(join, event)

    async def _append(self, join: Join, event: BarrierReleased | BarrierAbandoned) -> None:
        subject = Subject(self._fleet.name, "barrier", join.id, verb_of(event))
        seq = await self._fleet.log.append(entry(subject, join.version, event))
        self._fleet.hints.publish(join.id, seq)

    async def _tell(self, act: Tell) -> None:
        task = act.task
        event = decide(act.command, task, self._fleet.log.now())
        if isinstance(event, Refusal):
            return
        subject = subject_of(self._fleet.name, task, event)
        seq = await self._fleet.log.append(entry(subject, task.version, event))
        if isinstance(event, TerminalEvent):
            self._fleet.hints.publish(task.id, seq)
        elif isinstance(act.command, RequestCancel) and task.lease is not None:
            self._fleet.hints.publish(task.id, seq, to=task.lease.agent_id)
