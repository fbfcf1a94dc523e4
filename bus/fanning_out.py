"""Fanning out: the plan as an event can hold it, and the tasks that follow from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from fleetlog.bus.core import Submit, Task, decide
from fleetlog.bus.core.refusal import Refusal
from fleetlog.bus.errors import ConflictError, KeyTaken, ObjectLost, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import Append, entry
from fleetlog.bus.objects import Objects, ref_of
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import BarrierOpened, verb_of
from fleetlog.schemas.fan_outs import FanOutSpec, Member, plan_digest
from fleetlog.schemas.objects import INLINE_MAX_BYTES
from fleetlog.schemas.specs import NO_ARGS
from fleetlog.schemas.subjects import Subject, guard

PUTS_MAX: Final = 16
"""Large arguments on their way to the store at once."""
_members_decoder: Final = msgspec.json.Decoder(tuple[Member, ...])


async def store_args(objects: Objects, plan: FanOutSpec) -> FanOutSpec:
    """The plan without large arguments: these stand in the object store, before anything names them.

    Raises:
        TransportError: the store does not answer.
    """
    places = asyncio.Semaphore(PUTS_MAX)

    async def small(member: Member) -> Member:
        async with places:
            return await _without_large_args(objects, member)

    if any(_is_large(member) for member in plan.members):
        members = await asyncio.gather(*map(small, plan.members))
        plan = msgspec.structs.replace(plan, members=tuple(members))
    if plan.then is not None:
        plan = msgspec.structs.replace(plan, then=await _without_large_args(objects, plan.then))
    return plan


async def store_plan(objects: Objects, plan: FanOutSpec) -> FanOutSpec:
    """The plan as an event can hold it: its members stand in the object store where they are too large.

    Args:
        objects: the store.
        plan: from `store_args`.

    Raises:
        TransportError: the store does not answer.
    """
    data = msgspec.json.encode(plan.members)
    if len(data) <= INLINE_MAX_BYTES:
        return plan
    await objects.put(data)
    return msgspec.structs.replace(plan, members=(), members_ref=ref_of(data))


async def load_members(objects: Objects, plan: FanOutSpec) -> tuple[Member, ...]:
    """The members, wherever they are.

    Raises:
        ObjectLost: they are missing or can't be read.
        TransportError: the store does not answer.
    """
    if plan.members_ref is None:
        return plan.members
    try:
        return _members_decoder.decode(await objects.get(plan.members_ref))
    except msgspec.DecodeError as error:
        raise ObjectLost(f"the members of a fan-out can't be read: {error}") from error


def first_append(fleet: Fleet, barrier_id: str, member: Member) -> Append:
    """The first event of a member or a continuation: the same, whoever makes it."""
    assert member.spec is not None
    # With the barrier's id: of two fan-outs with one key the second must learn that it was not its own event.
    command = Submit(
        id=f"{member.task_id}-first-of-{barrier_id}",
        cause=barrier_id,
        spec=member.spec,
        digest=member.digest,
    )
    task = Task(id=member.task_id)
    event = decide(command, task, fleet.log.now())
    assert not isinstance(event, Refusal)
    return entry(subject_of(fleet.name, task, event), 0, event)


class Opened(msgspec.Struct, frozen=True):
    """A fan-out that the log has."""

    seq: int
    """Of its first event."""
    is_duplicate: bool
    """It was there before; nothing was written."""


async def open_fan_out(
    fleet: Fleet, barrier_id: str, plan: FanOutSpec, *, parent_id: str | None = None
) -> Opened:
    """Appends the event that names it all, then what follows from it.

    Args:
        fleet: where.
        barrier_id: its id.
        plan: with its members in it.
        parent_id: the running task that waits for it.

    Raises:
        KeyTaken: another fan-out has the id.
        LogFull: the log takes no new tasks.
    """
    digest = plan_digest(plan)
    await fleet.room.check_free()
    plan = await store_args(fleet.objects, plan)
    opened = await name_fan_out(fleet, barrier_id, plan, digest, parent_id=parent_id)
    if not opened.is_duplicate:
        await make_members(fleet, barrier_id, plan)
    return opened


async def name_fan_out(
    fleet: Fleet, barrier_id: str, plan: FanOutSpec, digest: str, *, parent_id: str | None = None
) -> Opened:
    """Appends the event that names it all, and no more: a coordinator makes what nobody else does.

    Args:
        fleet: where.
        barrier_id: its id.
        plan: from `store_args`, with its members in it.
        digest: `plan_digest` of the plan as it was given.
        parent_id: the running task that waits for it.

    Raises:
        KeyTaken: another fan-out has the id.
    """
    event = BarrierOpened(
        id=fleet.system.new_id(),
        occurred_at=fleet.log.now(),
        fan_out=await store_plan(fleet.objects, plan),
        digest=digest,
        parent_id=parent_id,
    )
    subject = Subject(fleet.name, "barrier", barrier_id, verb_of(event))
    try:
        seq = await fleet.log.append(entry(subject, 0, event))
    except ConflictError:
        return await _opened_before(fleet, barrier_id, digest)
    return Opened(seq, is_duplicate=False)


async def _opened_before(fleet: Fleet, barrier_id: str, digest: str) -> Opened:
    found = await fleet.log.read_thing(guard(fleet.name, "barrier", barrier_id))
    if not found:
        raise Unavailable(
            f"fan-out {barrier_id} was in the log, whose server has lost its last second: try again"
        )
    first = open_stored(found[0])
    if not isinstance(first.event, BarrierOpened) or first.event.digest != digest:
        raise KeyTaken(
            f"fan-out {barrier_id} exists with other members or another continuation: use another key,"
            f" or see `fleetlog barrier show {barrier_id}`"
        )
    return Opened(first.seq, is_duplicate=True)


async def make_members(fleet: Fleet, barrier_id: str, plan: FanOutSpec) -> None:
    """Appends what follows from a fan-out: its members' first events and its continuation's.

    Safe to repeat and to leave: the coordinator appends what is missing.

    Args:
        fleet: where.
        barrier_id: whose.
        plan: from `store_args`, with its members in it.
    """
    followers = [member for member in plan.members if member.spec is not None]
    if plan.then is not None:
        followers.append(plan.then)
    await append_first(fleet, barrier_id, followers)


async def append_first(fleet: Fleet, barrier_id: str, members: Sequence[Member]) -> list[str]:
    """Appends the first events of these; answers the ids of those that were there already."""
    await fleet.derived.ensure(each.spec for each in members if each.spec is not None)
    appended = [fleet.log.append(first_append(fleet, barrier_id, each)) for each in members]
    known: list[str] = []
    errors: list[BaseException] = []
    answers = await asyncio.gather(*appended, return_exceptions=True)
    for member, answer in zip(members, answers, strict=True):
        if isinstance(answer, ConflictError):
            known.append(member.task_id)
        elif isinstance(answer, BaseException):
            errors.append(answer)
    if errors:
        raise errors[0]
    return known


async def _without_large_args(objects: Objects, member: Member) -> Member:
    if member.spec is None or not _is_large(member):
        return member
    ref = await objects.put(bytes(member.spec.args))
    spec = msgspec.structs.replace(member.spec, args=NO_ARGS, args_ref=ref)
    return msgspec.structs.replace(member, spec=spec)


def _is_large(member: Member) -> bool:
    return member.spec is not None and len(memoryview(member.spec.args)) > INLINE_MAX_BYTES
