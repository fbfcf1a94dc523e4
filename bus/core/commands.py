"""What someone wants of a task. A command's id becomes its event's id: sending it again is the same act."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fleetlog.schemas.events import AllowanceUse, Usage, WorktreeReport
from fleetlog.schemas.fan_outs import FanOutSpec
from fleetlog.schemas.objects import Artifact, ObjectRef
from fleetlog.schemas.questions import Question
from fleetlog.schemas.specs import TaskSpec


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What every command carries."""

    id: str
    """Becomes the id of the event."""
    cause: str | None = None
    """The id of what led to it."""
    actor: str | None = None
    """Who acts, where a person or another program does."""
    reason: str | None = None
    """Why, in the actor's words."""


OnDuplicate = Literal[
    "return",  # the task that is there, if it is the same work; else it is refused
    "replace",  # as long as it has not started, this takes its place
    "refuse",  # it is refused, whatever is there
]


class Submit(Command, frozen=True, kw_only=True):
    """Make the task."""

    spec: TaskSpec
    """Checked by `check_spec` before."""
    digest: str
    """`payload_digest(spec)`."""
    on_duplicate: OnDuplicate = "return"
    """What to do when the id or key is there already."""


class Queue(Command, frozen=True, kw_only=True):
    """Offer a held or waiting task whose time has come."""

    is_open: bool = False
    """The tasks that it waits for let it run."""
    is_admitted: bool = False
    """Its limits, budgets and its turn let it run."""
    host: str | None = None
    """Offer it to agents of this host alone, for as long as its spec says."""
    session_id: str | None = None
    """The session of an agent CLI that is there, which an attempt may go on with."""


class OfferAgain(Command, frozen=True, kw_only=True):
    """Offer a queued task anew, as its offer reaches nobody; it keeps its places and its host."""

    offer: int
    """Log sequence of the `queued` event that does not."""
    host: str | None = None
    """`Task.host`."""


class Hold(Command, frozen=True, kw_only=True):
    """Take an offer back that nobody has claimed yet: the task waits for its gates again."""


class GiveAnswer(Command, frozen=True, kw_only=True):
    """Answer what a waiting task asks, and offer it again, or hold it until it is let in."""

    asked: int
    """`Task.asked`: which of its questions."""
    answer: Any
    """A JSON value."""
    host: str | None = None
    """As for `Queue`."""


class GiveUp(Command, frozen=True, kw_only=True):
    """Fail a held task, as what it waits for can no longer succeed."""

    error: str
    """For people, with the names of those that did not complete."""


class Claim(Command, frozen=True, kw_only=True):
    """Take an offer."""

    offer: int
    """Log sequence of the `queued` event."""
    agent_id: str
    """Who takes it."""
    worker_id: str
    """Which worker will run it."""
    host: str
    """Where."""
    ack: str | None = None
    """The ack subject of the delivery."""
    over: int | None = None
    """Fence of the claim to take the place of: the caller has evidence, as the design defines it, that its
    holder is gone. Of whoever has claimed the offer since, that says nothing."""


class Ending(Command, frozen=True, kw_only=True):
    """What the end of an attempt carries."""

    fence: int
    """The lease it belongs to."""
    ran_ms: int | None = None
    """From start to end of the attempt, on the worker's clock."""
    exit_code: int | None = None
    """Of the process, negative for a signal."""
    usage: Usage | None = None
    """Tokens and cost."""
    artifacts: tuple[Artifact, ...] = ()
    """The files that the attempt left, stored before."""
    session_id: str | None = None
    """The session of an agent CLI."""
    worktree: WorktreeReport | None = None
    """Where its work stands."""
    allowances: tuple[AllowanceUse, ...] = ()
    """What was said about its credential's allowances."""


class Complete(Ending, frozen=True, kw_only=True):
    """Record success."""

    result: msgspec.Raw
    """One JSON value."""
    result_ref: ObjectRef | None = None
    """Where it is stored when it is too large for an event; `result` is null then."""
    fan_out: FanOutSpec | None = None
    """What it leads to, instead of a result."""


class Fail(Ending, frozen=True, kw_only=True):
    """Record a failed attempt: another one follows, or the task has failed."""

    error_class: str
    """One of `ErrorClass`."""
    error: str
    """For people."""
    jitter: float
    """In [0, 1): the part of the longest wait that counts."""
    is_permanent: bool = False
    """Trying again is useless."""
    delay_ms: int | None = None
    """The attempt's own wish, instead of the backoff."""


class Return(Ending, frozen=True, kw_only=True):
    """Give an attempt back that ended through no fault of the task."""

    error_class: str
    """`lost` counts against the bound on losses."""
    error: str
    """For people."""
    delay_ms: int = 0
    """Not to be offered again before this."""
    question: Question | None = None
    """With `needs_input`: not to be offered again before this is answered."""


class RequestCancel(Command, frozen=True, kw_only=True):
    """End the task: at once if it does not run, else by its agent."""


class Cancel(Ending, frozen=True, kw_only=True):
    """Record that a running task was ended on request and nothing of it runs any more."""


class Expire(Command, frozen=True, kw_only=True):
    """Settle a task that did not start in time."""
