"""What a continuation is given: the outcomes of its barrier's members, as they were when it was released."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from fleetlog.bus.errors import ObjectLost
from fleetlog.bus.fanning_out import load_members
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.outcomes import Outcome, barrier_outcome, outcome_of, with_result
from fleetlog.schemas.children import Child
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import BarrierOpened, BarrierReleased, TaskCompleted, TerminalEvent
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.subjects import guard

READS_MAX: Final = 200
"""Events that are read at once."""
_sequences: Final = msgspec.json.Decoder(tuple[int, ...])


async def load_children(fleet: Fleet, barrier_id: str) -> list[Child]:
    """The members of a released barrier in order, the same at every call.

    Raises:
        ObjectLost: the barrier's events or a stored result are missing or damaged.
        TransportError: log or store do not answer.
    """
    last = await fleet.log.last(guard(fleet.name, "barrier", barrier_id))
    released = open_stored(last).event if last is not None else None
    if not isinstance(released, BarrierReleased):
        raise ObjectLost(f"the log does not hold the release of barrier {barrier_id}")
    plan = await _plan_of(fleet, released.opened)
    members = await load_members(fleet.objects, plan)
    sequences = released.outcomes
    if released.outcomes_ref is not None:
        sequences = _sequences.decode(await fleet.objects.get(released.outcomes_ref))
    places = asyncio.Semaphore(READS_MAX)

    async def child(member: Member, seq: int) -> Child:
        async with places:
            return _child(member, await _outcome(fleet, member, seq))

    return await asyncio.gather(*map(child, members, sequences))


async def _plan_of(fleet: Fleet, seq: int) -> FanOutSpec:
    stored = await fleet.log.get(seq)
    event = open_stored(stored).event if stored is not None else None
    if isinstance(event, BarrierOpened):
        return event.fan_out
    if isinstance(event, TaskCompleted) and event.fan_out is not None:
        return event.fan_out
    raise ObjectLost(f"event {seq}, which named the members of a fan-out, is not in the log")


async def _outcome(fleet: Fleet, member: Member, seq: int) -> Outcome:
    if seq == 0:
        return Outcome(task_id=member.task_id, state="open")
    stored = await fleet.log.get(seq)
    event = open_stored(stored).event if stored is not None else None
    if isinstance(event, TerminalEvent):
        return await with_result(outcome_of(member.task_id, event), fleet.objects)
    ended = barrier_outcome(member.task_id, event)
    if ended is None:
        raise ObjectLost(f"event {seq}, the outcome of task {member.task_id}, is not in the log")
    return ended


def _child(member: Member, outcome: Outcome) -> Child:
    spec = member.spec
    args: Any = None
    if spec is not None and spec.args_ref is None:
        args = msgspec.json.decode(spec.args)
    return Child(
        task_id=member.task_id,
        handler=spec.handler if spec is not None else None,
        args=args,
        state=outcome.state,
        result=outcome.result,
        error=outcome.error,
        error_class=outcome.error_class,
    )
