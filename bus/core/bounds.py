"""What bounds tasks that have to be let in: limits, budgets, and credentials that can't be used for now."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime

from fleetlog.bus.core.budgets import BudgetState, evolve_budget
from fleetlog.bus.core.credential import Credential, evolve_credential
from fleetlog.bus.core.limits import Limit, evolve_limit, family_of
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import LimitSet
from fleetlog.schemas.ids import key_token


class Bounds:
    """All of them, as their own events tell."""

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        """By token."""
        self.budgets: OrderedDict[str, BudgetState] = OrderedDict()
        """By token; the one under which something ended last is the last."""
        self.credentials: dict[str, Credential] = {}
        """By name: those that were ever paused."""

    def restore(
        self,
        limits: Iterable[Limit],
        budgets: Iterable[BudgetState],
        credentials: Iterable[Credential],
    ) -> None:
        """Begins with what a snapshot holds."""
        self.limits.update((each.id, each) for each in limits)
        self.budgets.update((each.id, each) for each in budgets)
        self.credentials.update((each.name, each) for each in credentials)

    def take_limit(self, token: str, record: Recorded) -> str:
        """An event of a limit was taken; answers its key."""
        known = self.limits.get(token) or Limit(id=token)
        # An admission carries the key, by which a setting of its family is found.
        key: str = getattr(record.event, "key", known.key)
        self.limits[token] = evolve_limit(known, record, self._family_setting(key))
        return key

    def take_budget(self, token: str, record: Recorded) -> None:
        """An event of a budget was taken."""
        known = self.budgets.get(token) or BudgetState(id=token)
        self.budgets[token] = evolve_budget(known, record)

    def take_credential(self, name: str, record: Recorded) -> None:
        """An event of a credential was taken."""
        known = self.credentials.get(name) or Credential(name=name)
        self.credentials[name] = evolve_credential(known, record)

    def setting_of(self, key: str) -> LimitSet | None:
        """How a limit is set; None: it bounds nothing."""
        known = self.limits.get(key_token(key))
        own = known.setting if known is not None else None
        return own or self._family_setting(key)

    def limit(self, key: str) -> Limit:
        """A limit, whether or not anything was ever said of it."""
        token = key_token(key)
        return self.limits.get(token) or Limit(id=token, key=key)

    def budget(self, key: str) -> BudgetState:
        """A budget, whether or not anything was ever said of it."""
        token = key_token(key)
        return self.budgets.get(token) or BudgetState(id=token, key=key)

    def credential(self, name: str) -> Credential:
        """A credential, whether or not anything was ever said of it."""
        return self.credentials.get(name) or Credential(name=name)

    def is_paused(self, credential: str | None, now: datetime) -> bool:
        """Whether nothing may use it."""
        return credential is not None and self.credential(credential).is_paused(now)

    def _family_setting(self, key: str) -> LimitSet | None:
        family = family_of(key)
        known = self.limits.get(key_token(family)) if family is not None else None
        return known.setting if known is not None else None
