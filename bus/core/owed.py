"""What is owed to one thing that waits, in its present state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from fleetlog.bus.core.agenda import Agenda
from fleetlog.bus.core.barrier import verdict
from fleetlog.bus.core.commands import GiveUp, Queue, RequestCancel
from fleetlog.bus.core.join import (
    Abandon,
    Join,
    JoinAct,
    LoadMembers,
    LookAt,
    MakeTask,
    ReadOn,
    Release,
    Tell,
    barrier_id_of,
)
from fleetlog.bus.core.task import Task, instant_after

PATIENCE_MS: Final = 1_000
"""A writer that made no further member for so long has died: the coordinator makes the others."""


class Owing:
    """One look at a join. What it gives is marked in the agenda as under way.

    Args:
        join: what waits.
        agenda: its queues.
        tasks: those that are not settled.
        now: the log's time.
    """

    def __init__(
        self, join: Join, agenda: Agenda, tasks: Mapping[str, Task], now: datetime
    ) -> None:
        self._join = join
        self._agenda = agenda
        self._tasks = tasks
        self._now = now
        self.wake_at: datetime | None = None
        """When to look again although nothing has happened."""
        self.inner: list[str] = []
        """Barriers that end with it, by name."""
        self._rouse()

    def acts(self) -> Iterator[JoinAct]:
        """The acts; it may be left at any of them, and goes on there the next time."""
        yield from self._looks()
        yield from self._makes()
        yield from self._cancels()
        if self._join.is_gate:
            found = self._of_gate()
        elif self._join.status == "open":
            found = self._while_open()
        else:
            found = self._at_the_end()
        for act in found:
            if (mark := mark_of(act)) not in self._agenda.sent:
                self._agenda.sent.add(mark)
                yield act

    def _rouse(self) -> None:
        """Sees to what time brings; set before anything is given, as the rest may be left."""
        join = self._join
        is_overdue = join.unseen and join.is_making and self._is_patience_over()
        if is_overdue and self._agenda.roused_at != join.stirred_at:
            self._agenda.roused_at = join.stirred_at
            unmade = (each for each, member in join.unseen.items() if member.spec is not None)
            self._agenda.makes.update((e, None) for e in unmade if e not in self._agenda.made)

    def _is_patience_over(self) -> bool:
        return self._is_past(instant_after(self._join.stirred_at, PATIENCE_MS))

    def _is_past(self, instant: datetime) -> bool:
        if instant <= self._now:
            return True
        self.wake_at = min(self.wake_at or instant, instant)
        return False

    def _looks(self) -> Iterator[JoinAct]:
        looks = self._agenda.looks
        while looks:
            name, is_member = looks.popitem(last=False)
            if name in self._join.open:
                yield LookAt(self._join, name, is_member)

    def _makes(self) -> Iterator[JoinAct]:
        makes = self._agenda.makes
        while makes:
            task_id, _ = makes.popitem(last=False)
            if (member := self._join.unseen.get(task_id)) is not None:
                self._agenda.made.add(task_id)
                yield MakeTask(self._join, member)

    def _cancels(self) -> Iterator[JoinAct]:
        join, cancels = self._join, self._agenda.cancels
        why = "the barrier's deadline passed" if join.is_over else f"the barrier was {join.status}"
        while cancels:
            each, _ = cancels.popitem(last=False)
            if barrier_id_of(each) is not None:
                self.inner.append(each)
            task = self._tasks.get(each)
            if each in join.own and task is not None and not task.is_cancel_requested:
                command = RequestCancel(id=_derived(task, "end"), cause=join.id, reason=why)
                yield Tell(join, task, command)

    def _of_gate(self) -> Iterator[JoinAct]:
        join, task = self._join, self._tasks[self._join.id]
        decided = verdict(join.plan, join.tally)
        if decided == "fail":
            yield Tell(join, task, GiveUp(id=_derived(task, "give-up"), error=_blame(join)))
        elif decided == "release" and task.due_at is not None and self._is_past(task.due_at):
            yield Tell(join, task, Queue(id=_derived(task, "open"), is_open=True))

    def _while_open(self) -> Iterator[JoinAct]:
        join = self._join
        if (unwanted := self._unwanted()) is not None:
            yield unwanted
            return
        is_known = not (join.own or join.unseen or join.is_unread or join.followers)
        is_over = join.is_over and is_known
        decided = verdict(join.plan, join.tally, is_over=is_over)
        if decided == "release":
            yield Release(join, join.version, join.tally, tuple(join.slots))
            return
        if decided == "fail":
            yield self._abandon("policy", _blame(join))
            return
        if join.is_unread:
            yield LoadMembers(join)
        if join.continuation == "unmade" and self._is_patience_over():
            yield from self._continuation()
        deadline_at = join.deadline_at
        if deadline_at is not None and not join.is_over and self._is_past(deadline_at):
            yield ReadOn(join)

    def _unwanted(self) -> Abandon | None:
        join = self._join
        if join.is_unwanted:
            return self._abandon("cancelled", "it was cancelled")
        if join.continuation == "gone":
            return self._abandon("cancelled", f"its continuation {join.then_id} has ended")
        if join.parent_id is not None and join.parent_id not in self._tasks:
            return self._abandon("parent", f"task {join.parent_id}, which waited for it, has ended")
        if join.lost:
            return self._abandon("policy", join.lost)
        return None

    def _abandon(self, why: str, error: str) -> Abandon:
        return Abandon(self._join, self._join.version, self._join.tally, why, error)

    def _continuation(self) -> Iterator[JoinAct]:
        then = self._join.plan.then
        assert then is not None
        yield MakeTask(self._join, then)

    def _at_the_end(self) -> Iterator[JoinAct]:
        join = self._join
        if join.continuation == "unmade":
            yield from self._continuation()
        held = [join.then_id] if join.continuation == "held" and join.then_id else []
        for task in [self._tasks[each] for each in (*held, *join.heirs)]:
            is_due = task.due_at is not None and self._is_past(task.due_at)
            if join.status == "abandoned" or is_due:
                yield Tell(join, task, _next_of(join, task))
        if join.is_unread and not join.is_cancelling:
            yield LoadMembers(join)


def mark_of(act: JoinAct) -> object:
    """What makes two acts the same one in the same state."""
    match act:
        case Tell():
            return (act.task.id, act.task.version)
        case MakeTask():
            return (MakeTask, act.member.task_id)
        case Release() | Abandon():
            return (type(act), act.version)
        case _:
            return type(act)


def _next_of(join: Join, task: Task) -> Queue | GiveUp | RequestCancel:
    if join.status == "released":
        return Queue(id=_derived(task, "release"), cause=join.id, is_open=True)
    if join.why in ("cancelled", "parent"):
        return RequestCancel(
            id=_derived(task, "abandon"), cause=join.id, reason="its barrier was cancelled"
        )
    return GiveUp(id=_derived(task, "abandon"), cause=join.id, error=join.error)


def _blame(join: Join) -> str:
    more = join.settled - join.succeeded - len(join.culprits)
    names = ", ".join(join.culprits) + (f" and {more} more" if more > 0 else "")
    late = "its deadline passed" if join.is_over else ""
    return (
        f"{join.succeeded} of {join.plan.count} completed, too few for {join.plan.policy}: "
        + ", and ".join(filter(None, (names, late)))
    )


def _derived(task: Task, act: str) -> str:
    return f"{task.id}-{task.version}-{act}"
