"""What is on the way for all joins, and which of them are to be looked at again.

No part of the fold: it follows from that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice

from fleetlog.bus.core.agenda import Agenda, Alarms
from fleetlog.bus.core.join import ActOfJoin, Join, JoinAct, LookAt, MakeTask, Tell
from fleetlog.bus.core.owed import Owing, mark_of
from fleetlog.bus.core.task import Task


class Agendas:
    """An agenda for each join.

    Args:
        joins: by name; kept by the caller.
        tasks: the tasks that are not settled, by id; kept by the caller.
    """

    __slots__ = ("_alarms", "_by_name", "_dirty", "_joins", "_tasks")

    def __init__(self, joins: Mapping[str, Join], tasks: Mapping[str, Task]) -> None:
        self._joins = joins
        self._tasks = tasks
        self._by_name: dict[str, Agenda] = {}
        self._dirty: OrderedDict[str, None] = OrderedDict()
        self._alarms = Alarms()

    def __getitem__(self, name: str) -> Agenda:
        return self._by_name[name]

    def open(self, name: str) -> None:
        """A join of this name begins."""
        self._by_name[name] = Agenda()

    def drop(self, name: str) -> None:
        """It is over."""
        del self._by_name[name]
        self._dirty.pop(name, None)
        self._alarms.drop(name)

    def touch(self, name: str) -> None:
        """Something about it is new."""
        self._dirty[name] = None

    def acts(self, now: datetime, most: int, disown: Callable[[Join], None]) -> list[JoinAct]:
        """Up to `most` things that are owed or due, each only once for each state of what it concerns.

        Args:
            now: the log's time.
            most: how many.
            disown: called with a barrier that ends with the one that it is part of.
        """
        for name in self._alarms.ring(now):
            self._dirty[name] = None
        found: list[JoinAct] = []
        while self._dirty and len(found) < most:
            name, _ = self._dirty.popitem(last=False)
            if (join := self._joins.get(name)) is None:
                continue
            owing = Owing(join, self._by_name[name], self._tasks, now)
            found += islice(owing.acts(), most - len(found))
            for inner in [self._joins[each] for each in owing.inner if each in self._joins]:
                disown(inner)
            if owing.wake_at is not None:
                self._alarms.set(name, owing.wake_at)
            if len(found) >= most:
                self._dirty[name] = None
        return found

    def put_back(self, act: ActOfJoin) -> None:
        """It could not be done: it comes again."""
        agenda = self._by_name[act.join.name]
        match act:
            case MakeTask() if act.member.task_id in act.join.unseen:
                agenda.makes[act.member.task_id] = None
            case LookAt():
                agenda.looks[act.name] = act.is_member
            case Tell() if act.task.id in act.join.own:
                agenda.cancels[act.task.id] = None
            case _:
                agenda.sent.discard(mark_of(act))

    def next_at(self) -> datetime | None:
        """When something may come due."""
        return self._alarms.next_at()
