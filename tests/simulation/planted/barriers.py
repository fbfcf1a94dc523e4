"""Bugs in fan-outs: what they name, when their barriers end, and what follows."""

from __future__ import annotations

from typing import Any

import msgspec
from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

from fleetlog.bus.core import owed
from simulation.planted.bug import Bug, typed

_JOINS = "fleetlog.bus.core.joins:Joins"
_VERDICT = "fleetlog.bus.core.barrier:verdict"


def _released_early(patch: MonkeyPatch) -> None:
    right = owed.verdict

    def verdict(plan: Any, tally: Any, *, is_over: bool = False) -> Any:
        counted = msgspec.structs.replace(tally, expected=max(tally.settled, tally.expected - 1))
        return right(plan, counted, is_over=is_over)

    patch.setattr(owed, "verdict", verdict)


BUGS = (
    Bug("a barrier misses one member", {"barrier.policy": 0}, _released_early),
    Bug(
        "members are counted from nought",
        {"barrier.plan": 0},
        typed(
            "fleetlog.schemas.fan_outs:plan_fan_out",
            ("in enumerate(members, 1)]", "in enumerate(members)]"),
        ),
    ),
    Bug(
        "a barrier that has ended is abandoned",
        {"barrier.one_ending": 13},
        typed(
            "fleetlog.bus.cancelling:abandon",
            (
                "if last is not None and not isinstance(open_stored(last).event, BarrierOpened):",
                "if last is not None and isinstance(open_stored(last).event, BarrierAbandoned):",
            ),
        ),
    ),
    Bug(
        "a member that fans out has settled",
        {"barrier.outcomes": 13},
        typed(
            f"{_JOINS}._settle",
            ("if fan_out is not None:", "if fan_out is not None and fan_out.then is None:"),
        ),
    ),
    Bug(
        "a barrier is given up when just enough may complete",
        {"barrier.abandoned": 0},
        typed(_VERDICT, ("open_count < needed", "open_count <= needed")),
    ),
    Bug(
        "a barrier hopes for one more than there are",
        {"end.barrier": 36},
        typed(_VERDICT, ("open_count < needed", "open_count < needed - 1")),
    ),
    Bug(
        "an act for a barrier that failed is forgotten",
        {"end.barrier": 180},
        typed("fleetlog.bus.joining:Joiner._put_back", ("self._joins.put_back(act)", "")),
    ),
    Bug(
        "members are made without the budgets that the event names",
        {"barrier.members": 25},
        typed(
            "fleetlog.agents.attempts:Attempts._record",
            ("store_args(plan_under_budgets(plan, task.budget_keys))", "store_args(plan)"),
            (
                "store_plan(end, plan)",
                "store_plan(end, plan_under_budgets(plan, task.budget_keys))",
            ),
        ),
    ),
    Bug(
        "a release leaves stragglers alone",
        {"barrier.stragglers": 3},
        typed(f"{_JOINS}._end", ("if join.is_cancelling:", "if join.is_cancelling and join.why:")),
    ),
    Bug(
        "a task that was asked to end still fans out",
        {"cancel.tree": 13},
        typed(
            f"{_JOINS}.take_task",
            (
                "join.is_unwanted = before.is_cancel_requested",
                'join.is_unwanted = task.status == "cancelled"',
            ),
        ),
    ),
)
