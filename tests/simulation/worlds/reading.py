"""What the history of one thing must be like, read event by event by code that shares nothing with `evolve`."""

from __future__ import annotations

from typing import NamedTuple

from fleetlog.schemas.events import (
    AgentLost,
    AgentStarted,
    AnyEvent,
    BarrierAbandoned,
    BarrierOpened,
    BarrierReleased,
    TaskCancelRequested,
    TaskClaimed,
    TaskHeld,
    TaskQueued,
    TaskRetried,
    TaskReturned,
    TerminalEvent,
    verb_of,
)


class Reading(NamedTuple):
    """What has to be remembered of a history to judge its next event."""

    offer: int = 0
    """The last `queued`, as long as nobody has claimed it and it is not taken back."""
    fence: int = 0
    """The live claim; 0: nobody's."""
    claimed_offer: int = 0
    """What that claim took."""
    holder: str = ""
    """Whose it is."""
    fence_max: int = 0
    """The highest that there was."""
    end_seq: int = 0
    """The event that ended it."""
    end: str = ""
    """Its verb."""
    is_cancel_requested: bool = False
    is_there: bool = False
    opening_count: int = 0
    """How often what waited for tasks was queued for the first time."""
    attempt_count: int = 0
    wrong: str = ""
    """Why the last event must not be there."""


def read(before: Reading, seq: int, event: AnyEvent) -> Reading:
    """The reading after one more event."""
    if before.end and not isinstance(event, BarrierOpened):
        return before._replace(wrong=f"{verb_of(event)} although it is {before.end}")
    match event:
        case TaskHeld():
            return _first(before)
        case TaskQueued():
            return _queued(before, seq)
        case TaskClaimed():
            return _claimed(before, seq, event)
        case TaskCancelRequested():
            return _cancel_requested(before)
        case TaskRetried() | TaskReturned():
            return _attempt_ended(before, event)
        case BarrierOpened() | AgentStarted():
            return _first(before)
        case BarrierReleased() | BarrierAbandoned() | AgentLost():
            return before._replace(end=verb_of(event), end_seq=seq)
        case _:
            return _ended(before, seq, event)


def _first(before: Reading) -> Reading:
    return before._replace(is_there=True, wrong="it was there before" if before.is_there else "")


def _queued(before: Reading, seq: int) -> Reading:
    wrong = ""
    if before.fence:
        wrong = f"offered while {before.holder} has it"
    elif before.offer:
        wrong = "offered twice"
    is_opening = before.is_there and not before.attempt_count
    return before._replace(
        is_there=True,
        offer=seq,
        wrong=wrong,
        opening_count=before.opening_count + is_opening,
    )


def _claimed(before: Reading, seq: int, event: TaskClaimed) -> Reading:
    wrong = ""
    if before.fence and (event.over, event.offer) != (before.fence, before.claimed_offer):
        wrong = f"two live claims: {before.holder}'s and {event.agent_id}'s"
    elif not before.fence and (event.over is not None or event.offer != before.offer):
        wrong = "claimed, though that offer was not there to be taken"
    elif seq <= before.fence_max:
        wrong = "the fence did not grow"
    return before._replace(
        offer=0,
        fence=seq,
        fence_max=seq,
        claimed_offer=event.offer,
        holder=event.agent_id,
        is_there=True,
        attempt_count=before.attempt_count + 1,
        wrong=wrong,
    )


def _cancel_requested(before: Reading) -> Reading:
    wrong = "" if before.fence and not before.is_cancel_requested else "asked to end, not running"
    return before._replace(is_cancel_requested=True, wrong=wrong)


def _attempt_ended(before: Reading, event: TaskRetried | TaskReturned) -> Reading:
    return before._replace(
        fence=0, holder="", is_cancel_requested=False, wrong=_wrong_end(before, event)
    )


def _ended(before: Reading, seq: int, event: TerminalEvent) -> Reading:
    if event.fence is None:
        wrong = f"ended as if it did not run, while {before.holder} has it" if before.fence else ""
        wrong = wrong or ("" if before.is_there else "ended, though it never was there")
    else:
        wrong = _wrong_end(before, event)
    return before._replace(offer=0, fence=0, end=verb_of(event), end_seq=seq, wrong=wrong)


def _wrong_end(before: Reading, event: TaskRetried | TaskReturned | TerminalEvent) -> str:
    """An attempt is ended by its holder, by who claims over it, or by a coordinator."""
    if not before.fence or event.fence != before.fence:
        return f"the end of attempt {event.fence}, which has lost its lease, was taken"
    writer, _, act = event.id.partition(":")
    if act and not act.startswith("claim") and writer != before.holder:
        return f"{writer} ended the attempt of {before.holder}"
    return ""
