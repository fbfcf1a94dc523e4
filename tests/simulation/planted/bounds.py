"""Bugs in what bounds tasks: limits, budgets and credentials."""

from __future__ import annotations

from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

from fleetlog.bus.core.admission import Admission
from simulation.planted.bug import Bug, typed

_ADMISSION = "fleetlog.bus.core.admission"
_ADMITTING = "fleetlog.bus.admitting"
_BUDGETS = "fleetlog.bus.core.budgets"


def _forgets_admissions(patch: MonkeyPatch) -> None:
    patch.setattr(Admission, "put_back", lambda _self, _act: None)


BUGS = (
    Bug(
        "a limit lets one more in",
        {"limit.places": 36},
        typed(
            f"{_ADMISSION}:Admission._room_under",
            ("room = setting.concurrency - len(", "room = 1 + setting.concurrency - len("),
        ),
    ),
    Bug(
        "a rate lets one more start",
        {"limit.rate": 7},
        typed(
            "fleetlog.bus.core.limits:starts_left",
            (
                "max(0, (_size(setting) - missing) // _interval(setting))",
                "max(0, (_size(setting) - missing) // _interval(setting)) + 1",
            ),
        ),
    ),
    Bug(
        "tasks are let in one after the other",
        {"limit.batch": 0},
        typed(
            f"{_ADMITTING}:Admitter._admit",
            (
                "await self._fleet.log.append_together([*(each for _, each in offers), *admitted])",
                "[await self._fleet.log.append(each) for each in (*(each for _, each in offers), *admitted)]",
            ),
        ),
    ),
    Bug(
        "an admission stands under the key as it is",
        {"log.readable": 0},
        typed(
            f"{_ADMITTING}:Admitter._admitted",
            ('"limit", limit.id, "admitted"', '"limit", limit.key, "admitted"'),
        ),
    ),
    Bug("an admission that failed is forgotten", {"end.settled": 0}, _forgets_admissions),
    Bug(
        "a budget never holds anything back",
        {"budget.hold": 51},
        typed(f"{_BUDGETS}:BudgetState.is_holding", ('action != "warn"', 'action == "stop"')),
    ),
    Bug(
        "a budget that begins anew keeps what was used",
        {"budget.told": 50},
        typed(
            f"{_BUDGETS}:evolve_budget",
            ("spent = Spent() if event.is_reset else state.spent", "spent = state.spent"),
        ),
    ),
    Bug(
        "a continuation is under no budget of its task",
        {"budget.inherited": 25},
        typed(
            "fleetlog.schemas.fan_outs:plan_under_budgets",
            ("then=under(plan.then) if plan.then is not None else None", "then=plan.then"),
        ),
    ),
    Bug(
        "a coordinator takes a pause without an end for none",
        {"credential.paused": 13},
        typed(
            "fleetlog.bus.core.bounds:Bounds.is_paused",
            (
                "self.credential(credential).is_paused(now)",
                "(pause := self.credential(credential).pause) and pause.until is not None",
            ),
        ),
    ),
)
