"""`FanOut`: many tasks and what follows them, as a handler returns it and as a client sends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from fleetlog.bus.submit_options import Duration, milliseconds_of
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.fan_outs import FanOutSpec, Policy, Stragglers, plan_fan_out
from fleetlog.schemas.specs import TaskSpec


class FanOut:
    """Many tasks, and one that runs when they have settled. Handlers return it, `Client.fan_out` takes it.

    Args:
        members: from `call(…)`, or ids of tasks that are there already.
        then: the continuation: from `call(…)`; it finds the members' outcomes in `ctx.children`.
        policy: when it runs. `settled`: when all have settled; `all`: if all have completed; `any`: as soon as
            one has; `quorum`: as soon as so many have.
        quorum: how many, for `quorum`.
        deadline: after so long, members that are open are cancelled, and the policy decides.
        stragglers: what becomes of members that are open when it is decided: `cancel` or `wait`.
    """

    def __init__(
        self,
        members: Iterable[TaskSpec | str],
        *,
        then: TaskSpec | None = None,
        policy: Policy = "settled",
        quorum: int | None = None,
        deadline: Duration | None = None,
        stragglers: Stragglers = "cancel",
    ) -> None:
        self.members = list(members)
        self.then = then
        self.policy: Policy = policy
        self.quorum = quorum
        self.deadline = deadline
        self.stragglers: Stragglers = stragglers

    def plan(self, barrier_id: str, parent_id: str | None = None) -> FanOutSpec:
        """The whole of it, checked.

        Raises:
            InvalidInput: something in it is not allowed.
        """
        for word, allowed in ((self.policy, Policy), (self.stragglers, Stragglers)):
            if word not in get_args(allowed):
                raise InvalidInput(
                    f"{word!r} is not known: use one of {', '.join(get_args(allowed))}"
                )
        deadline_ms = None if self.deadline is None else milliseconds_of(self.deadline, "deadline")
        if deadline_ms is not None and deadline_ms < 1:
            raise InvalidInput("the deadline leaves no time: give a longer one, such as 10m")
        return plan_fan_out(
            barrier_id,
            self.members,
            then=self.then,
            policy=self.policy,
            quorum=self.quorum,
            stragglers=self.stragglers,
            deadline_ms=deadline_ms,
            parent_id=parent_id,
        )
