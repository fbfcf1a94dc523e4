"""Limits and budgets of a fleet: setting them from any process, and whether a task's are known."""

from __future__ import annotations

import difflib
from typing import Final, Literal

from fleetlog.bus.core.budgets import BudgetState, evolve_budget
from fleetlog.bus.core.limits import Limit, evolve_limit, family_of
from fleetlog.bus.errors import BoundUnknown, ConflictError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import EventLog, entry
from fleetlog.schemas.budgets import check_budget
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import BudgetSet, LimitSet, verb_of
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject, bounds_set, guard

Kind = Literal["limit", "budget"]

KNOWN_MAX: Final = 10_000
"""So many keys are remembered as known; then it begins anew."""


async def set_limit(fleet: Fleet, event: LimitSet) -> Limit:
    """Sets a limit, whatever it was; answers how it stands.

    Raises:
        InvalidInput: no limit can have this key.
    """
    await _append(fleet, "limit", event)
    token = key_token(event.key)
    limit = Limit(id=token, key=event.key)
    for stored in await fleet.log.read_thing(guard(fleet.name, "limit", token)):
        limit = evolve_limit(limit, open_stored(stored))
    return limit


async def set_budget(fleet: Fleet, event: BudgetSet) -> BudgetState:
    """Sets a budget, whatever it was; answers how it stands, without what was spent.

    Raises:
        InvalidInput: no budget can have this key, or it bounds nothing.
    """
    check_budget(event.budget)
    await _append(fleet, "budget", event)
    token = key_token(event.key)
    state = BudgetState(id=token, key=event.key)
    for stored in await fleet.log.read_thing(guard(fleet.name, "budget", token)):
        state = evolve_budget(state, open_stored(stored))
    return state


async def _append(fleet: Fleet, kind: Kind, event: LimitSet | BudgetSet) -> None:
    token = key_token(event.key)
    subject = Subject(fleet.name, kind, token, verb_of(event))
    while True:
        last = await fleet.log.last(guard(fleet.name, kind, token))
        try:
            await fleet.log.append(entry(subject, last.seq if last is not None else 0, event))
        except ConflictError:
            continue
        return


class KnownBounds:
    """Which limits and budgets were ever set: a task that names another one is a mistake, as a rule."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: set[tuple[Kind, str]] = set()

    async def check(self, spec: TaskSpec) -> None:
        """Refuses a task under a limit or budget that nobody has set.

        Raises:
            BoundUnknown: names it, and near ones.
        """
        for key in spec.limits:
            if not (await self._is_set("limit", key) or await self._is_family_set(key)):
                raise BoundUnknown(
                    f"nobody has set a limit {key!r}{await self._near('limit', key)}"
                    f" `fleetlog limit set {key} --concurrency 3` sets one,"
                    " and --unchecked submits the task all the same"
                )
        for key in spec.budgets:
            if not await self._is_set("budget", key):
                raise BoundUnknown(
                    f"nobody has set a budget {key!r}{await self._near('budget', key)}"
                    f" `fleetlog budget set {key} --usd 5` sets one,"
                    " and --unchecked submits the task all the same"
                )

    async def _is_family_set(self, key: str) -> bool:
        family = family_of(key)
        return family is not None and await self._is_set("limit", family)

    async def _is_set(self, kind: Kind, key: str) -> bool:
        if (kind, key) in self._known:
            return True
        found = await self._log.last(bounds_set(self._log.fleet, kind, key_token(key)))
        if found is None:
            return False
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known.add((kind, key))
        return True

    async def _near(self, kind: Kind, key: str) -> str:
        """Such as `: did you mean 'github'?`; rare enough to read all that were ever set."""
        keys: set[str] = set()
        async for page in self._log.read(subjects=bounds_set(self._log.fleet, kind)):
            for stored in page:
                event = open_stored(stored).event
                if isinstance(event, LimitSet | BudgetSet):
                    keys.add(event.key)
        near = difflib.get_close_matches(key, keys, 3)
        return f": did you mean {' or '.join(map(repr, near))}?" if near else "."
