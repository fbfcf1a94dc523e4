"""What must hold between a barrier, its members and its continuation, read from their histories alone."""

from __future__ import annotations

from collections.abc import Sequence

from fleetlog.schemas.events import BarrierReleased
from simulation.worlds.histories import History


def wrong_release(event: BarrierReleased, members: Sequence[History], policy: str) -> str:
    """Why a barrier must not have been released like this, or not now."""
    ends = [member.reading for member in members]
    known = [each for each in ends if each.end]
    succeeded = sum(each.end == "completed" for each in known)
    if policy == "settled" and len(known) < len(members):
        return f"the barrier is released, and only {len(known)} of {len(members)} have settled"
    if policy == "all" and succeeded < len(members):
        return f"the barrier is released, and only {succeeded} of {len(members)} have completed"
    if policy == "any" and not succeeded:
        return "the barrier is released, and none has completed"
    if event.expected != len(members):
        return f"the barrier waited for {event.expected} of {len(members)}"
    return _wrong_list(event, members)


def _wrong_list(event: BarrierReleased, members: Sequence[History]) -> str:
    """Each slot names the event that ended its member, or nothing if that was not known to have ended."""
    if len(event.outcomes) != len(members):
        return "the outcome list has not one place for each member"
    for named, member in zip(event.outcomes, members, strict=True):
        if named not in (0, member.reading.end_seq):
            return f"the outcome list names {named} for {member.thing.id}"
    named = [each for each in event.outcomes if each]
    if len(named) != event.settled:
        return "the outcome list does not have as many as have settled"
    by_seq = {member.reading.end_seq: member.reading.end for member in members}
    if sum(by_seq[each] == "completed" for each in named) != event.succeeded:
        return "the count of successes is not that of the outcome list"
    return ""


def wrong_gate(task: History, waited_for: Sequence[History]) -> str:
    """Why a task that waits for others must not be on offer."""
    if task.reading.opening_count > 1:
        return "what waited for others was queued more than once"
    completed = sum(each.reading.end == "completed" for each in waited_for)
    if task.reading.opening_count and completed < len(waited_for):
        return f"queued, and only {completed} of {len(waited_for)} that it waits for have completed"
    return ""


def wrong_opening(continuation: History, barrier: History) -> str:
    """Why a continuation must not be on offer."""
    count = continuation.reading.opening_count
    if count > 1:
        return "the continuation was queued more than once"
    if count and not isinstance(barrier.event, BarrierReleased):
        return "the continuation was queued, and its barrier is not released"
    return ""
