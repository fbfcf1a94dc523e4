"""What attempts lead to: a fan-out as an outcome, and tasks as programs name them in lines of JSON."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.frames import MESSAGE_BYTES_MAX, Failed, Outcome, Run, Succeeded, clip
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.submit_options import SubmitOptions, with_options
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.fan_outs import Policy, Stragglers
from fleetlog.schemas.ids import derived_id, key_id
from fleetlog.schemas.specs import ATTEMPTS_DEFAULT, NO_ARGS, TaskSpec, check_spec
from fleetlog.schemas.subjects import Priority

FAN_OUT_MAX_BYTES: Final = MESSAGE_BYTES_MAX - 64 * 1024
"""A fan-out goes to the supervisor in one message."""


def fanned_out(fan_out: FanOut, run: Run) -> Outcome:
    """The outcome of an attempt that fans out."""
    try:
        plan = msgspec.json.encode(fan_out.plan(run.task_id, parent_id=run.task_id))
    except InvalidInput as error:
        return _unreadable(f"the fan-out is not allowed: {error}")
    if len(plan) > FAN_OUT_MAX_BYTES:
        return _unreadable(
            f"the fan-out has {len(plan)} bytes, at most {FAN_OUT_MAX_BYTES} are allowed:"
            " put large arguments into files or a store and pass their names"
        )
    return Succeeded(b"null", plan)


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A task: a handler with arguments, or a command."""

    handler: str | None = None
    """The handler's name; for a command, what to call it in lists."""
    args: msgspec.Raw = NO_ARGS
    """One JSON object."""
    argv: list[str] | None = None
    """A command and its arguments, instead of `args`."""
    executor: str | None = None
    """How it runs: `python`, or `command` where there is an `argv`."""
    queue: str = "default"
    priority: Priority = "normal"
    key: str | None = None
    labels: dict[str, str] = {}
    limits: tuple[str, ...] = ()
    fair_key: str | None = None
    max_attempts: Annotated[int, Meta(ge=1)] = ATTEMPTS_DEFAULT
    timeout: str | float | None = "1h"
    requires: dict[str, str] = {}
    affinity: str | None = None

    def spec(self) -> TaskSpec:
        """The task, checked.

        Raises:
            InvalidInput: something in it is not allowed.
        """
        args, handler, executor = self.args, self.handler, self.executor
        if self.argv is not None:
            args = msgspec.Raw(msgspec.json.encode({"argv": self.argv}))
            handler = handler or (self.argv[0] if self.argv else None)
            executor = executor or "command"
        if handler is None:
            raise InvalidInput("a task needs a handler or an argv")
        spec = TaskSpec(
            handler=handler,
            args=args,
            executor=executor or "python",
            queue=self.queue,
            priority=self.priority,
            key=self.key,
            labels=self.labels,
            max_attempts=self.max_attempts,
            limits=self.limits,
            fair_key=self.fair_key,
            requires=self.requires,
            affinity=self.affinity,
        )
        options: SubmitOptions = {"timeout": self.timeout}
        return check_spec(with_options(spec, options))


class SpawnLine(Named, frozen=True, tag_field="type", tag="spawn"):
    """A task to be made now; nobody waits for it."""

    def spawned_id(self, parent_id: str, number: int) -> str:
        """Its id, the same in every attempt: by its key, else by its number among the spawned."""
        place = f"s{number}" if self.key is None else f"s-{key_id(self.key)}"
        return derived_id(parent_id, place)

    def spawned(self) -> TaskSpec:
        """The task, without the key, which is its id's; see `spec`."""
        return msgspec.structs.replace(self.spec(), key=None)


class FanOutLine(msgspec.Struct, frozen=True, tag_field="type", tag="fan_out"):
    """The outcome: tasks that this one leads to, and what runs when they have settled."""

    members: list[Named | str]
    then: Named | None = None
    policy: Policy = "settled"
    quorum: int | None = None
    deadline: str | float | None = None
    stragglers: Stragglers = "cancel"

    def fan_out(self) -> FanOut:
        """As a handler would return it.

        Raises:
            InvalidInput: something in it is not allowed.
        """
        return FanOut(
            [each if isinstance(each, str) else each.spec() for each in self.members],
            then=self.then.spec() if self.then is not None else None,
            policy=self.policy,
            quorum=self.quorum,
            deadline=self.deadline,
            stragglers=self.stragglers,
        )


def _unreadable(error: str) -> Failed:
    return Failed("unreadable_result", clip(error), is_permanent=True)
