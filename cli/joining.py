"""The options that say what follows when the tasks of a map have settled."""

from __future__ import annotations

import re
from typing import Annotated, Final, get_args

import msgspec
import typer

from fleetlog.bus.fan_out import FanOut
from fleetlog.cli.grouping import Group
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.fan_outs import MEMBERS_MAX, Policy, Stragglers
from fleetlog.schemas.specs import TaskSpec, check_spec

_PLAIN: Final[tuple[Policy, ...]] = ("settled", "all", "any")
_STRAGGLERS: Final[tuple[Stragglers, ...]] = get_args(Stragglers)


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from a map, as it was asked for."""

    then: TaskSpec | None = None
    """The continuation."""
    policy: Policy = "settled"
    """When it runs."""
    quorum: int | None = None
    """How many must have completed, for `quorum`."""
    deadline: str | None = None
    """Then open tasks are cancelled."""
    stragglers: Stragglers = "cancel"
    """What becomes of tasks that are open at the end."""

    def fan_out(self, members: list[TaskSpec]) -> FanOut:
        """Of these."""
        return FanOut(
            members,
            then=self.then,
            policy=self.policy,
            quorum=self.quorum,
            deadline=self.deadline,
            stragglers=self.stragglers,
        )


class JoiningOptions(Group, frozen=True, kw_only=True):
    """What makes a fan-out of a map."""

    then: Annotated[
        str | None,
        typer.Option(
            metavar="HANDLER",
            help="This one runs when all have settled, and sees their outcomes; all is one fan-out.",
        ),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="When it runs: settled, all (have completed), any (one has) or quorum=K (so many have).",
            show_default="settled",
        ),
    ] = None
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Then open tasks are cancelled, and the policy decides."
        ),
    ] = None
    stragglers: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What becomes of tasks that are open when it is decided: cancel or wait.",
            show_default="cancel",
        ),
    ] = None

    def joining(self, template: TaskSpec) -> Joining | None:
        """None for a plain map. The continuation has queue, priority and labels of the tasks.

        Raises:
            InvalidInput: a word is not known, or an option has nothing to belong to.
        """
        if self.then is None and self.policy is None:
            if self.deadline is not None or self.stragglers is not None:
                name = "--deadline" if self.deadline is not None else "--stragglers"
                raise InvalidInput(f"{name} goes with --then or --policy: give one of them too")
            return None
        policy, quorum = _policy_of(self.policy or "settled")
        if self.deadline is not None and parse_duration(self.deadline, "deadline") < 1:
            raise InvalidInput("the deadline leaves no time: give a longer one, such as 10m")
        return Joining(
            then=_continuation(template, self.then) if self.then is not None else None,
            policy=policy,
            quorum=quorum,
            deadline=self.deadline,
            stragglers=_stragglers_of(self.stragglers or "cancel"),
        )


def _policy_of(text: str) -> tuple[Policy, int | None]:
    for policy in _PLAIN:
        if policy == text:
            return policy, None
    name, _, number = text.partition("=")
    if name != "quorum":
        raise InvalidInput(f"policy {text!r} is not one of settled, all, any, quorum=K")
    if re.fullmatch(r"[0-9]{1,5}", number) is None or not 1 <= int(number) <= MEMBERS_MAX:
        raise InvalidInput(
            f"policy {text!r}: a quorum is a whole number from 1 to {MEMBERS_MAX}, such as quorum=3"
        )
    return "quorum", int(number)


def _stragglers_of(text: str) -> Stragglers:
    for stragglers in _STRAGGLERS:
        if stragglers == text:
            return stragglers
    raise InvalidInput(f"stragglers {text!r} is not one of {', '.join(_STRAGGLERS)}")


def _continuation(template: TaskSpec, handler: str) -> TaskSpec:
    return check_spec(
        TaskSpec(
            handler=handler,
            queue=template.queue,
            priority=template.priority,
            labels=template.labels,
            budgets=template.budgets,
        )
    )
