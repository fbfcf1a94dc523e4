"""When a barrier is released, and when it can be no more."""

from __future__ import annotations

from typing import Literal

import msgspec

from fleetlog.schemas.fan_outs import FanOutSpec, needed_count

Verdict = Literal["wait", "release", "fail"]


class Tally(msgspec.Struct, frozen=True):
    """How far the members of a barrier are."""

    expected: int
    """How many there are."""
    settled: int
    """How many have settled."""
    succeeded: int
    """How many of these have completed."""


def verdict(plan: FanOutSpec, tally: Tally, *, is_over: bool = False) -> Verdict:
    """What the policy says.

    Args:
        plan: the fan-out.
        tally: how far its members are.
        is_over: its deadline has passed, and what is still open counts as never completed.
    """
    open_count = 0 if is_over else tally.expected - tally.settled
    if plan.policy == "settled":
        return "wait" if open_count else "release"
    needed = needed_count(plan)
    if tally.succeeded >= needed:
        return "release"
    return "fail" if tally.succeeded + open_count < needed else "wait"


def why_released(plan: FanOutSpec, tally: Tally) -> str:
    """The reason that stands in the event."""
    counts = f"{tally.settled} of {tally.expected} settled, {tally.succeeded} completed"
    match plan.policy:
        case "settled" if tally.settled < tally.expected:
            return f"the deadline passed: {counts}"
        case "settled":
            return f"all have settled: {counts}"
        case "all":
            return f"all have completed: {counts}"
        case "any":
            return f"one has completed: {counts}"
        case _:
            return f"{plan.quorum} have completed: {counts}"
