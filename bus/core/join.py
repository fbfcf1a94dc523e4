"""One thing that waits for a set of tasks, and the acts that such things lead to."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from fleetlog.bus.core.barrier import Tally
from fleetlog.bus.core.commands import GiveUp, Queue, RequestCancel
from fleetlog.bus.core.task import Task, instant_after
from fleetlog.schemas.fan_outs import FanOutSpec, Member


class Join(msgspec.Struct, kw_only=True):
    """One barrier, or one task with `after`, as the log tells it. Changed by `Joins` alone."""

    id: str
    """The barrier's, or the waiting task's."""
    is_gate: bool = False
    """It is a task with `after`: its own next event is all that follows."""
    plan: FanOutSpec
    """Without its members."""
    opened: int
    """The sequence of the event that named the members."""
    opened_at: datetime
    """When the log stored it."""
    parent_id: str | None = None
    """The task that waits for it, running."""
    version: int = 0
    """The sequence of the barrier's last event."""
    status: Literal["open", "released", "abandoned"] = "open"
    """Where it is in its life."""
    why: str = ""
    """See `BarrierAbandoned.why`."""
    error: str = ""
    """Why it was abandoned, for people."""
    is_unwanted: bool = False
    """Someone ended what led to it, or what it was part of."""
    is_unread: bool = False
    """The members are in the object store and have not been read yet."""
    lost: str = ""
    """Why the members can't be read, for ever."""
    is_over: bool = False
    """Its deadline has passed, as the whole log up to then shows."""
    continuation: Literal["none", "unmade", "held", "gone"] = "none"
    """What is known of it; gone: on its way, or ended."""
    heirs: dict[str, None] = {}
    """Held tasks that continue it too: a continuation that was revived."""
    slots: list[int] = []
    """For each member in order, the event that settled it; 0 while it is open. Empty once it has ended."""
    open: dict[str, list[int]] = {}
    """What is waited for, a task's id or a barrier's name, and its slots: several where a member's continuation
    is a member too, none where it came before the members were read."""
    own: set[str] = set()
    """Of these, what the fan-out made: only that is cancelled with it."""
    unseen: dict[str, Member] = {}
    """Members of which nothing is known yet."""
    early: set[str] = set()
    """Members that came while they were unread."""
    followers: set[str] = set()
    """What open slots were handed on to, of which no event may come any more: the log must be asked."""
    settled: int = 0
    """Slots that are settled."""
    succeeded: int = 0
    """Those of them with success."""
    culprits: list[str] = []
    """The first that settled without."""
    stirred_at: datetime
    """When the log last held something new about its members' first events."""

    @property
    def name(self) -> str:
        """Its key among all joins; no task has such an id."""
        return gate_name(self.id) if self.is_gate else barrier_name(self.id)

    @property
    def then_id(self) -> str | None:
        """Its continuation's id."""
        return self.plan.then.task_id if self.plan.then is not None else None

    @property
    def concerned(self) -> list[str]:
        """The tasks whose events it must hear of, beside its members."""
        found = (self.then_id, self.parent_id, *self.heirs)
        return [each for each in found if each is not None]

    def has_made(self, task: Task | None) -> bool:
        """Whether the task is the fan-out's own, not one that it only waits for."""
        return task is not None and task.spec is not None and task.spec.barrier_id == self.id

    @property
    def is_cancelling(self) -> bool:
        """Whether what it made and is still open ends with it."""
        return self.plan.stragglers == "cancel" or self.why in ("cancelled", "parent")

    @property
    def is_ending(self) -> bool:
        """Whether what it made and is still open is to end now."""
        return self.is_over if self.status == "open" else self.is_cancelling

    @property
    def is_making(self) -> bool:
        """Whether members that nobody has made are wanted."""
        return self.status == "open" or not self.is_cancelling

    @property
    def tally(self) -> Tally:
        """How far it is."""
        return Tally(self.plan.count, self.settled, self.succeeded)

    @property
    def deadline_at(self) -> datetime | None:
        """When open members are cancelled."""
        if self.plan.deadline_ms is None:
            return None
        return instant_after(self.opened_at, self.plan.deadline_ms)


class MakeTask(msgspec.Struct, frozen=True):
    """Append the first event of a member or of a continuation, which its writer has not."""

    join: Join
    member: Member


class LookAt(msgspec.Struct, frozen=True):
    """Read what the fold does not hold: a task, or a barrier by its name."""

    join: Join
    name: str
    is_member: bool
    """It must be there; else it is what a member's slot was handed on to."""


class LookBack(msgspec.Struct, frozen=True):
    """Read how a barrier ended that the fold has let go: a task of it has come after that."""

    barrier_id: str


class LoadMembers(msgspec.Struct, frozen=True):
    """Fetch the members from the object store."""

    join: Join


class ReadOn(msgspec.Struct, frozen=True):
    """The deadline has passed: read the log to an end asked for now, then say so."""

    join: Join


class Release(msgspec.Struct, frozen=True):
    """Append `barrier.released`. All of it as it was when it was decided: the join goes on changing."""

    join: Join
    version: int
    """What the guard must state."""
    tally: Tally
    outcomes: tuple[int, ...]


class Abandon(msgspec.Struct, frozen=True):
    """Append `barrier.abandoned`."""

    join: Join
    version: int
    """What the guard must state."""
    tally: Tally
    why: str
    error: str


class Tell(msgspec.Struct, frozen=True):
    """A command for a task."""

    join: Join
    task: Task
    command: Queue | GiveUp | RequestCancel


ActOfJoin = MakeTask | LookAt | LoadMembers | ReadOn | Release | Abandon | Tell
JoinAct = ActOfJoin | LookBack


def barrier_name(barrier_id: str) -> str:
    """What a barrier is called among the things that are waited for; no task has such an id."""
    return f"barrier {barrier_id}"


def barrier_id_of(name: str) -> str | None:
    """The barrier that a name means; None if it means a task."""
    kind, _, barrier_id = name.rpartition(" ")
    return barrier_id if kind == "barrier" else None


def gate_name(task_id: str) -> str:
    """What the wait of a task with `after` is called."""
    return f"gate {task_id}"
