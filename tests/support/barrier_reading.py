"""What must hold of barriers, read from the log alone by code that shares nothing with the fold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import (
    BarrierAbandoned,
    BarrierOpened,
    BarrierReleased,
    TaskCompleted,
    TaskFailed,
    TaskHeld,
    TaskQueued,
    TerminalEvent,
)
from fleetlog.schemas.fan_outs import FanOutSpec, Member
from fleetlog.schemas.objects import ObjectRef


def openings(records: list[Recorded]) -> dict[str, Recorded]:
    """By barrier, the event that named its members."""
    found: dict[str, Recorded] = {}
    for record in records:
        event = record.event
        is_opening = isinstance(event, BarrierOpened) or (
            isinstance(event, TaskCompleted) and event.fan_out is not None
        )
        if is_opening and record.subject is not None:
            found.setdefault(record.subject.id, record)
    return found


class Reading:
    """The whole log, looked up.

    Args:
        records: all of it.
        objects: what stands in the object store, by digest.
    """

    def __init__(self, records: list[Recorded], objects: Mapping[str, bytes]) -> None:
        self.records = records
        self.objects = objects
        self.openings = openings(self.records)
        self.ends: defaultdict[str, list[Recorded]] = defaultdict(list)
        self.settled: defaultdict[str, list[Recorded]] = defaultdict(list)
        self.queued: defaultdict[str, list[Recorded]] = defaultdict(list)
        self.known: set[str] = set()
        for record in self.records:
            assert record.subject is not None
            thing_id = record.subject.id
            if record.subject.kind == "task":
                self.known.add(thing_id)
            if isinstance(record.event, BarrierReleased | BarrierAbandoned):
                opening = self.openings.get(thing_id)
                if opening is None or opening.seq < record.seq:
                    self.ends[thing_id].append(record)
            if isinstance(record.event, TerminalEvent):
                self.settled[thing_id].append(record)
            if isinstance(record.event, TaskQueued):
                self.queued[thing_id].append(record)

    def members(self, barrier_id: str) -> tuple[Member, ...]:
        plan = self.plan(barrier_id)
        ref: ObjectRef | None = plan.members_ref
        if ref is None:
            return tuple(plan.members)
        return msgspec.json.decode(self.objects[ref.sha256], type=tuple[Member, ...])

    def plan(self, barrier_id: str) -> FanOutSpec:
        event = self.openings[barrier_id].event
        assert isinstance(event, BarrierOpened | TaskCompleted)
        assert event.fan_out is not None
        return event.fan_out

    def outcome(self, task_id: str) -> Recorded | None:
        """What settled a task for good, through all that it led to."""
        found = self.settled[task_id]
        if not found:
            return None
        event = found[0].event
        if not isinstance(event, TaskCompleted) or event.fan_out is None:
            return found[0]
        if event.fan_out.then is not None:
            return self.outcome(event.fan_out.then.task_id)
        return self.ends[task_id][0] if self.ends[task_id] else None

    def is_success(self, record: Recorded | None) -> bool:
        return record is not None and isinstance(record.event, TaskCompleted | BarrierReleased)


def check(reading: Reading, *, has_cancelled: bool) -> None:
    """All of it.

    Args:
        reading: the log after everything has come to rest.
        has_cancelled: somebody ended tasks or barriers.
    """
    for task_id in reading.known:
        assert len(reading.settled[task_id]) == 1, f"{task_id} has one outcome"
    for barrier_id in reading.openings:
        assert len(reading.ends[barrier_id]) == 1, f"{barrier_id} ends once"
        end = reading.ends[barrier_id][0]
        check_continuation(reading, barrier_id, end)
        if isinstance(end.event, BarrierReleased):
            check_released(reading, barrier_id, end, end.event)
        elif "members are not known" in end.event.error:  # type: ignore[union-attr]  # there are but two
            continue
        elif end.event.why == "policy":  # type: ignore[union-attr]  # there are but two
            check_given_up(reading, barrier_id, end)
        else:
            assert has_cancelled or end.event.why == "parent" or is_within(reading)  # type: ignore[union-attr]
        check_members(reading, barrier_id, end)
    check_gates(reading)


def is_within(reading: Reading) -> bool:
    """Some barrier cancels what it made, which may be another one."""
    return any(reading.plan(each).stragglers == "cancel" for each in reading.openings)


def check_continuation(reading: Reading, barrier_id: str, end: Recorded) -> None:
    then = reading.plan(barrier_id).then
    if then is None:
        return
    offers = [r for r in reading.queued[then.task_id] if r.event.attempt == 1]  # type: ignore[union-attr]
    if isinstance(end.event, BarrierAbandoned):
        assert offers == [], f"{then.task_id} never runs"
        assert not isinstance(reading.settled[then.task_id][0].event, TaskCompleted)
        return
    assert all(r.seq > end.seq for r in offers)
    is_ended_unrun = reading.settled[then.task_id][0].event.attempts == 0  # type: ignore[union-attr]
    assert len(offers) == 1 or (not offers and is_ended_unrun), f"{then.task_id} is queued once"


def check_released(
    reading: Reading, barrier_id: str, end: Recorded, event: BarrierReleased
) -> None:
    plan, members = reading.plan(barrier_id), reading.members(barrier_id)
    assert len(event.outcomes) == len(members) == event.expected
    succeeded = 0
    for member, seq in zip(members, event.outcomes, strict=True):
        outcome = reading.outcome(member.task_id)
        assert seq == 0 or (outcome is not None and outcome.seq == seq < end.seq)
        succeeded += seq != 0 and reading.is_success(outcome)
    assert (event.settled, event.succeeded) == (sum(map(bool, event.outcomes)), succeeded)
    needed = {"settled": 0, "all": len(members), "any": 1, "quorum": plan.quorum}[plan.policy]
    assert succeeded >= (needed or 0)
    if plan.policy == "settled":
        assert all(event.outcomes) or is_late(reading, barrier_id, end)


def check_given_up(reading: Reading, barrier_id: str, end: Recorded) -> None:
    plan, members = reading.plan(barrier_id), reading.members(barrier_id)
    outcomes = [reading.outcome(member.task_id) for member in members]
    lost = sum(o is not None and o.seq < end.seq and not reading.is_success(o) for o in outcomes)
    needed = {"settled": 0, "all": len(members), "any": 1, "quorum": plan.quorum}[plan.policy]
    assert len(members) - lost < (needed or 0) or is_late(reading, barrier_id, end)


def is_late(reading: Reading, barrier_id: str, end: Recorded) -> bool:
    plan, opening = reading.plan(barrier_id), reading.openings[barrier_id]
    passed = (end.stored_at - opening.stored_at).total_seconds() * 1000
    return plan.deadline_ms is not None and passed >= plan.deadline_ms


def check_members(reading: Reading, barrier_id: str, end: Recorded) -> None:
    """What goes on is made, whoever died."""
    is_cancelling = getattr(end.event, "why", "") in ("cancelled", "parent")
    if is_cancelling or reading.plan(barrier_id).stragglers == "cancel":
        return
    for member in reading.members(barrier_id):
        assert member.task_id in reading.known


def check_gates(reading: Reading) -> None:
    for record in reading.records:
        event = record.event
        if record.subject is None or not isinstance(event, TaskHeld) or not event.spec.after:
            continue
        task_id = record.subject.id
        outcomes = [reading.outcome(each) for each in event.spec.after]
        for offer in reading.queued[task_id]:
            assert all(reading.is_success(o) and o.seq < offer.seq for o in outcomes if o)
            assert None not in outcomes
        end = reading.settled[task_id][0].event
        if isinstance(end, TaskFailed) and end.error_class == "dependency":
            assert not all(map(reading.is_success, outcomes))
