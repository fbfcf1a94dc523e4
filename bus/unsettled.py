"""What a coordinator holds: the tasks that are not settled and the agents, as the log tells; what is to do."""

from __future__ import annotations

import heapq
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from fleetlog.bus.core import (
    AgentState,
    Queue,
    Task,
    due,
    evolve,
    evolve_agent,
    expires_at,
    next_due_at,
    permits,
    resume,
)
from fleetlog.bus.core.admission import Admission
from fleetlog.bus.core.affinity import Affinities
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.core.joins import Joins
from fleetlog.bus.core.schedules import Schedules
from fleetlog.schemas.envelope import Recorded, Stored, UnknownEvent, open_stored
from fleetlog.schemas.events import TerminalEvent
from fleetlog.schemas.subjects import Subject

logger = logging.getLogger("fleetlog.coordinator")

ENDED_MAX: Final = 10_000
"""So many agents that have ended are remembered, lest a late claim of theirs stay unnoticed."""
_STALE_MAX: Final = 10_000


class Unsettled:
    """The fold of a fleet's log. No I/O: it takes events and says what is to do."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        """Those that are not settled."""
        self.agents: dict[str, AgentState] = {}
        """Those that have not ended."""
        self.ended: dict[str, AgentState] = {}
        """The last that have."""
        self.joins = Joins(self.tasks)
        """What waits for other tasks."""
        self.schedules = Schedules()
        """What makes tasks at set times."""
        self.affinities = Affinities()
        """Where tasks with one key last ran."""
        self.seq = 0
        """The last event that was taken."""
        self.last: Stored | None = None
        """That event; None before the first."""
        self.violation_count = 0
        """Events that their task's state did not allow."""
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._owed: dict[str, None] = {}
        self._due: list[tuple[datetime, str, int]] = []
        self.admission = Admission(self.tasks, self.agents, self._held)
        """What waits for limits, budgets and its turn."""

    def parts(self) -> dict[str, list[Any]]:
        """What it consists of beside its tasks, by name, as it is now; each can be written as JSON."""
        return {
            "agents": [*self.ended.values(), *self.agents.values()],
            "joins": self.joins.packed(),
            "limits": list(self.admission.bounds.limits.values()),
            "budgets": list(self.admission.bounds.budgets.values()),
            "credentials": list(self.admission.bounds.credentials.values()),
            "schedules": list(self.schedules.known.values()),
            "places": self.affinities.packed(),
        }

    def restore(self, seq: int, tasks: Iterable[Task], parts: Mapping[str, Iterable[Any]]) -> None:
        """Begins with what is known up to event `seq` instead of with nothing; see `parts`."""
        self.seq = seq
        for agent in parts["agents"]:
            (self.ended if agent.is_ended else self.agents)[agent.id] = agent
        for task in tasks:
            self._keep(Task(id=task.id), task)
        self.joins.restore(seq, parts["joins"])
        self.admission.restore(parts["limits"], parts["budgets"], parts["credentials"])
        self.schedules.restore(parts["schedules"])
        self.affinities.restore(parts["places"])

    def take(self, stored: Stored) -> Recorded:
        """Takes the next event of the log."""
        record = open_stored(stored)
        self.seq, self.last = record.seq, stored
        match record.subject:
            case Subject(kind="task", id=thing_id):
                self._take_task(thing_id, record)
            case Subject(kind="agent", id=thing_id):
                self._take_agent(thing_id, record)
            case Subject(kind="barrier", id=thing_id):
                self._take_barrier(thing_id, record)
            case Subject(kind="limit", id=thing_id):
                self.admission.take_limit(thing_id, record)
            case Subject(kind="budget", id=thing_id):
                self.admission.take_budget(thing_id, record)
            case Subject(kind="credential", id=thing_id):
                self.admission.take_credential(thing_id, record)
            case Subject(kind="schedule", id=thing_id):
                self.schedules.take(thing_id, record)
        return record

    def acts(self, now: datetime, most: int) -> list[tuple[Task, AnyCommand]]:
        """Up to `most` commands that are owed or due, each only once for each state of its task."""
        found: list[tuple[Task, AnyCommand]] = []
        while self._owed and len(found) < most:
            task_id = next(iter(self._owed))
            del self._owed[task_id]
            task = self.tasks.get(task_id)
            if task is not None and (owed := self._resume(task)) is not None:
                found.append((task, owed))
        while self._due and self._due[0][0] <= now and len(found) < most:
            _, task_id, version = heapq.heappop(self._due)
            task = self.tasks.get(task_id)
            if task is None or task.version != version:
                continue
            command = due(task, now)
            if isinstance(command, Queue) and task.needs_admission and task.status != "queued":
                self.let_in(task)
            elif command is not None:
                found.append((task, self.placed(task, command)))
        found += self.admission.commands(now, most - len(found))
        return found

    def let_in(self, task: Task) -> None:
        """All else lets it run: it gets into line, where its overall time goes on."""
        self.admission.want(task)
        if (end := expires_at(task)) is not None:
            self._await(end, task)

    def placed(self, task: Task, command: AnyCommand) -> AnyCommand:
        """A `Queue` command with the host on which the task is to be offered first; others as they are."""
        if not isinstance(command, Queue):
            return command
        return self.affinities.placed(task, command, self.agents.values())

    def put_back(self, task: Task, now: datetime) -> None:
        """What was to do for the task could not be done: it comes again."""
        self._owed[task.id] = None
        self.admission.put_back_task(task)
        heapq.heappush(self._due, (now, task.id, task.version))

    def next_at(self) -> datetime | None:
        """When something may come due; None when only an event can bring anything."""
        return self._due[0][0] if self._due else None

    def _take_task(self, task_id: str, record: Recorded) -> None:
        before = self.tasks.get(task_id) or Task(id=task_id)
        task = evolve(before, record)
        self._count_violation(before, record)
        self._keep(before, task)
        self.joins.take_task(before, task, record)
        self.admission.take_task(before, task, record)
        self.schedules.take_task(before, task, record)
        self.affinities.take_task(before, task, record)

    def _take_barrier(self, barrier_id: str, record: Recorded) -> None:
        if self.joins.take_barrier(barrier_id, record) or isinstance(record.event, UnknownEvent):
            return
        self.violation_count += 1
        logger.error("event %d is not allowed in the state of barrier %s", record.seq, barrier_id)

    def _keep(self, before: Task, task: Task) -> None:
        if task.lease is not before.lease:
            if before.lease is not None:
                self._release(before.lease.agent_id, task.id)
            if task.lease is not None:
                self._held[task.lease.agent_id].add(task.id)
        if task.is_settled or task.status == "absent":
            self.tasks.pop(task.id, None)
            self._owed.pop(task.id, None)
            return
        self.tasks[task.id] = task
        if (instant := next_due_at(task)) is not None:
            self._await(instant, task)
        if self._resume(task) is None:
            self._owed.pop(task.id, None)
        else:
            self._owed[task.id] = None

    def _release(self, agent_id: str, task_id: str) -> None:
        held = self._held[agent_id]
        held.discard(task_id)
        if not held:
            del self._held[agent_id]

    def _await(self, instant: datetime, task: Task) -> None:
        heapq.heappush(self._due, (instant, task.id, task.version))
        if len(self._due) > 2 * len(self.tasks) + _STALE_MAX:
            # A standby takes nothing out: what came to pass by another one's acts would stay for ever.
            self._due = [
                entry
                for entry in self._due
                if (held := self.tasks.get(entry[1])) is not None and held.version == entry[2]
            ]
            heapq.heapify(self._due)

    def _take_agent(self, agent_id: str, record: Recorded) -> None:
        known = self.agents.get(agent_id) or self.ended.get(agent_id) or AgentState(id=agent_id)
        agent = evolve_agent(known, record)
        if not agent.is_ended:
            self.agents[agent_id] = agent
            self.admission.take_agent(agent)
            return
        self.agents.pop(agent_id, None)
        self.admission.take_agent(agent)
        self.ended[agent_id] = agent
        self._owed |= dict.fromkeys(sorted(self._held.get(agent_id, ())))
        if len(self.ended) > ENDED_MAX:
            oldest = next(each for each in self.ended if each not in self._held)
            del self.ended[oldest]

    def _resume(self, task: Task) -> AnyCommand | None:
        holder = self.ended.get(task.lease.agent_id) if task.lease is not None else None
        return resume(task, holder)

    def _count_violation(self, before: Task, record: Recorded) -> None:
        # A settled task is not held here: what comes after its end can't be told from a trimmed history's rest.
        if permits(before, record.event) or isinstance(record.event, TerminalEvent):
            return
        if isinstance(record.event, UnknownEvent):
            logger.warning(
                "event %d of task %s can't be read by this version, which leaves the task alone: upgrade it",
                *(record.seq, before.id),
            )
            return
        self.violation_count += 1
        logger.error("event %d is not allowed in the state of task %s", record.seq, before.id)
