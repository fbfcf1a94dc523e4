"""Letting tasks in: what waits for room under limits and budgets, or for its turn, and who is next.

`Admission` is the part of the fold that follows it. No I/O and no clock. Tasks that wait for the same things
stand in one line, so that an event is looked at once for each line, however long that is. Who holds a limit is
told by the tasks' own events: offered or running. So nothing can leak, and a task between two attempts holds
nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

import msgspec

from fleetlog.bus.core.admission_acts import AdmissionAct, Admit, Exhaust
from fleetlog.bus.core.agenda import Alarms
from fleetlog.bus.core.agent import AgentState
from fleetlog.bus.core.bounds import Bounds
from fleetlog.bus.core.budgets import BudgetState, charge, spent_in
from fleetlog.bus.core.commands import Hold, RequestCancel
from fleetlog.bus.core.credential import Credential, credential_of
from fleetlog.bus.core.index import Index
from fleetlog.bus.core.limits import (
    FAMILY,
    Limit,
    starts_at,
    starts_left,
)
from fleetlog.bus.core.lines import Gate, Lane, Line, Lines, gate_of, lane_of
from fleetlog.bus.core.rooms import Load, room_for
from fleetlog.bus.core.task import Task
from fleetlog.schemas.budgets import Spent
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import AttemptEnd, LimitSet, TaskHeld
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.requirements import satisfies
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import PRIORITIES

ADMIT_MAX: Final = 500
"""Tasks let in at once: with the limits' own events they are one batch."""
WINDOW_MIN: Final = 4
"""So many tasks with fair keys are on offer in a queue of which no agent is known."""
WINDOW_SLOTS: Final = 2
"""Else so many times what its agents can run: enough that they never wait for the coordinator."""
IDLE_BUDGETS_MAX: Final = 10_000
"""Of task trees under which nothing is open, so many budgets are remembered."""


class Admission:
    """All that has to be let in.

    Args:
        tasks: the tasks that are not settled, by id; kept by the caller.
        agents: the agents that have not ended; kept by the caller.
        held: the tasks that each agent holds; kept by the caller.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        agents: Mapping[str, AgentState],
        held: Mapping[str, Collection[str]],
    ) -> None:
        self._tasks = tasks
        self._agents = agents
        self._held = held
        self.bounds = Bounds()
        """What bounds them."""
        self.budgets = self.bounds.budgets
        self._holders: Index[str] = Index()
        self._under: Index[str] = Index()
        self._offered: Index[Lane] = Index()
        self._lines = Lines()
        self._busy: set[str] = set()
        self._orders: OrderedDict[str, None] = OrderedDict()
        self._untold: dict[str, None] = {}
        self._alarms = Alarms()
        self._serving: dict[tuple[str, tuple[tuple[str, str], ...]], list[Load]] = {}
        """While acts are sought: how loaded the agents are that can take a lane's tasks."""

    def restore(
        self,
        limits: Iterable[Limit],
        budgets: Iterable[BudgetState],
        credentials: Iterable[Credential],
    ) -> None:
        """Begins with what a snapshot holds; the tasks must be there already."""
        self.bounds.restore(limits, budgets, credentials)
        for task in self._tasks.values():
            if task.spec is not None and task.needs_admission:
                self._place(task, task.spec)
        for token in self.budgets:
            self._enforce(token)
        for name in self.bounds.credentials:
            self._recall(name)

    # What events do.

    def take_task(self, before: Task, task: Task, record: Recorded) -> None:
        """An event of a task was taken; `task` is the state that it led to."""
        if before.lease is not None and task.lease is not before.lease:
            self._touch_slots(before.lease.agent_id)
        if before.needs_admission and task.status != "absent":
            self._leave_behind(task, before)
        spec = task.spec or before.spec
        if spec is None or not spec.needs_admission:
            return
        if spec.budget is not None and before.status == "absent":
            token = key_token(task.id)
            self.budgets.setdefault(token, BudgetState(id=token, key=task.id, budget=spec.budget))
        self._place(task, spec)
        if task.status not in ("held", "waiting") or isinstance(record.event, TaskHeld):
            # Held anew, it gets into line again when it is due, perhaps into another one.
            self._lines.leave(task.id)
        ended = before.lease if task.lease is not before.lease else None
        if ended is not None and isinstance(record.event, AttemptEnd):
            spent = spent_in(record.event, ended, record.stored_at)
            self._charge(spec.budget_keys(task.id), spent)
        if task.is_settled:
            self._orders.pop(task.id, None)  # one who stands by carries none of them out
        elif self._is_held_back(task, spec):
            self._orders[task.id] = None

    def take_limit(self, token: str, record: Recorded) -> None:
        """An event of a limit was taken."""
        key = self.bounds.take_limit(token, record)
        self._busy.discard(token)
        if isinstance(record.event, LimitSet) and key.endswith(FAMILY):
            self._lines.touch_all()
        self._lines.touch(f"limit {token}")

    def take_budget(self, token: str, record: Recorded) -> None:
        """An event of a budget was taken."""
        self.bounds.take_budget(token, record)
        self._enforce(token)
        self._lines.touch(f"budget {token}")

    def take_credential(self, name: str, record: Recorded) -> None:
        """An event of a credential was taken."""
        self.bounds.take_credential(name, record)
        self._recall(name)
        self._lines.touch(f"credential {name}")

    def take_agent(self, agent: AgentState) -> None:
        """An agent came or went: more, or less, may be on offer."""
        self._touch_queues(agent)

    def want(self, task: Task) -> None:
        """All else lets the task run: it gets into line."""
        assert task.spec is not None
        self._lines.enter(task, gate_of(task.spec, task.id))

    def _place(self, task: Task, spec: TaskSpec) -> None:
        """Under what it stands now."""
        is_holder = task.status in ("queued", "claimed")
        for key in spec.limits:
            token = key_token(key)
            if self._holders.put(token, task.id, is_in=is_holder):
                self._lines.touch(f"limit {token}")
        for key in spec.budget_keys(task.id):
            token = key_token(key)
            if self._under.put(token, task.id, is_in=not task.is_settled):
                self._forget_idle(token)
        if spec.is_rationed:
            lane = lane_of(spec)
            if self._offered.put(lane, task.id, is_in=task.status == "queued"):
                self._lines.touch(f"lane {lane.name}")

    def _leave_behind(self, task: Task, before: Task) -> None:
        """What it stood under, if it was replaced by another task of its key."""
        old, new = before.spec, task.spec
        if old is None or new is None or gate_of(old, task.id) == gate_of(new, task.id):
            return
        self._lines.leave(task.id)
        for key in set(old.limits) - set(new.limits):
            if self._holders.discard(key_token(key), task.id):
                self._lines.touch(f"limit {key_token(key)}")
        for key in set(old.budget_keys(task.id)) - set(new.budget_keys(task.id)):
            self._under.discard(key_token(key), task.id)
        lane = lane_of(old)
        if old.is_rationed and self._offered.discard(lane, task.id):
            self._lines.touch(f"lane {lane.name}")

    def _charge(self, keys: Iterable[str], spent: Spent) -> None:
        for key in keys:
            token = key_token(key)
            if (state := self.budgets.get(token)) is not None:
                self.budgets[token] = charge(state, spent)
                self.budgets.move_to_end(token)
                self._enforce(token)

    def _enforce(self, token: str) -> None:
        """Sees to what follows from a budget that is used up."""
        state = self.budgets.get(token)
        if state is None or state.exhausted is None:
            return
        if state.told != state.budget:
            self._untold[token] = None
        if state.is_holding:
            self._orders.update(dict.fromkeys(sorted(self._under.of(token))))

    def _is_held_back(self, task: Task, spec: TaskSpec) -> bool:
        """Whether it may have to end, or its offer to be taken back."""
        if any(self.bounds.budget(key).is_holding for key in spec.budget_keys(task.id)):
            return True
        name = credential_of(spec) if task.status == "queued" else None
        return name is not None and self.bounds.credential(name).pause is not None

    def _recall(self, credential: str) -> None:
        """Takes offers back for which nobody has the credential: others may take their places meanwhile."""
        if self.bounds.credential(credential).pause is None:
            return
        for task in self._tasks.values():
            is_offered = task.status == "queued" and task.needs_admission
            if is_offered and task.spec is not None and credential_of(task.spec) == credential:
                self._orders[task.id] = None

    def _forget_idle(self, token: str) -> None:
        state = self.budgets.get(token)
        if token in self._under or state is None:
            return
        self.budgets.move_to_end(token)
        if len(self.budgets) <= IDLE_BUDGETS_MAX + len(self._under):
            return
        idle = (name for name, each in self.budgets.items() if name not in self._under)
        oldest = next((name for name in idle if self.budgets[name].version == 0), None)
        if oldest is not None:
            del self.budgets[oldest]

    def _touch_slots(self, agent_id: str) -> None:
        """One of the agent's slots is free."""
        if not self._lines.is_empty and (agent := self._agents.get(agent_id)) is not None:
            self._touch_queues(agent)

    def _touch_queues(self, agent: AgentState) -> None:
        for queue in agent.queues:
            self._lines.touch(f"queue {queue}")

    # What is to do.

    def commands(self, now: datetime, most: int) -> Iterator[tuple[Task, Hold | RequestCancel]]:
        """Up to `most` commands for tasks that are to end or whose offers are to be taken back, each once."""
        while self._orders and most > 0:
            task_id, _ = self._orders.popitem(last=False)
            if (command := self._order(task_id, now)) is not None:
                most -= 1
                yield self._tasks[task_id], command

    def _order(self, task_id: str, now: datetime) -> Hold | RequestCancel | None:
        task = self._tasks.get(task_id)
        if task is None or task.spec is None:
            return None
        states = [self.bounds.budget(key) for key in task.spec.budget_keys(task_id)]
        stopping = next((each for each in states if each.is_stopping), None)
        if stopping is not None and not task.is_cancel_requested:
            why = f"budget {stopping.key} is used up"
            return RequestCancel(id=f"{task.id}-{task.version}-stop", reason=why)
        whys = [f"budget {each.key} is used up" for each in states if each.is_holding]
        if self.bounds.is_paused(name := credential_of(task.spec), now):
            whys.append(f"credential {name} is paused")
        if whys and task.status == "queued":
            return Hold(id=f"{task.id}-{task.version}-hold", reason=" and ".join(whys))
        return None

    def put_back_task(self, task: Task) -> None:
        """A command for it could not be carried out."""
        if task.needs_admission:
            self._orders[task.id] = None

    def acts(self, now: datetime, most: int) -> list[AdmissionAct]:
        """Up to `most` appends, each only once for each state of what it concerns."""
        found: list[AdmissionAct] = []
        self._serving.clear()  # no event comes in between
        for name in self._alarms.ring(now):
            self._lines.touch_line(name)
        while self._untold and len(found) < most:
            token, _ = self._untold.popitem()
            state = self.budgets.get(token)
            if state is not None and state.exhausted is not None and state.told != state.budget:
                found.append(Exhaust(state))
        while len(found) < most and (line := self._lines.next_touched()) is not None:
            if (act := self._admit(line, now)) is not None:
                found.append(act)
        return found

    def _admit(self, line: Line, now: datetime) -> Admit | None:
        room = self._room(line, now)
        tasks = tuple(line.take(room, self._tasks))
        if line.is_waiting and tasks and not line.gate.limits:
            self._lines.touch_line(line.gate.name)
        self._lines.drop_empty(line)
        if not tasks:
            return None
        tokens = [key_token(key) for key in line.gate.limits]
        self._busy.update(tokens)
        if line.gate.lane is not None and line.gate.is_rationed:
            for each in tasks:
                self._offered.add(line.gate.lane, each.id)
        return Admit(tuple(map(self.bounds.limit, line.gate.limits)), tasks)

    def _room(self, line: Line, now: datetime) -> int:
        gate, room = line.gate, ADMIT_MAX
        if gate.credential is not None and self.bounds.is_paused(gate.credential, now):
            pause = self.bounds.credential(gate.credential).pause
            if pause is not None and pause.until is not None:
                self._alarms.set(gate.name, pause.until)
            return 0
        if any(self.bounds.budget(key).is_holding for key in gate.budgets):
            return 0
        for key in gate.limits:
            if key_token(key) in self._busy:
                return 0
            room = min(room, self._room_under(key, gate, now))
        if gate.lane is not None:
            room = min(room, self._room_in(gate.lane, gate))
        return max(0, room)

    def _room_in(self, lane: Lane, gate: Gate) -> int:
        loads = self._loads_of(lane)
        if not gate.is_rationed:
            # An offer that nobody can take would keep its limits' places from those that can run.
            return ADMIT_MAX if loads else 0
        if gate.is_strict:
            beside = {each: msgspec.structs.replace(lane, priority=each) for each in PRIORITIES}
            offered = {name: len(self._offered.of(each)) for name, each in beside.items()}
            return room_for(lane.priority, loads, offered)
        window = max(WINDOW_MIN, WINDOW_SLOTS * sum(load.slots for load in loads))
        return window - len(self._offered.of(lane))

    def _loads_of(self, lane: Lane) -> list[Load]:
        """Those agents that can take its tasks; of thousands of lines most are in a few lanes."""
        key = (lane.queue, lane.requires)
        loads = self._serving.get(key)
        if loads is None:
            requires = dict(lane.requires)
            loads = self._serving[key] = [
                self._load(agent)
                for agent in self._agents.values()
                if agent.status == "running"
                and lane.queue in agent.queues
                and satisfies(agent.labels, requires)
            ]
        return loads

    def _load(self, agent: AgentState) -> Load:
        held = self._held.get(agent.id, ())
        if not agent.reserve_high:
            return Load(agent.slots, len(held))
        specs = (self._tasks[each].spec for each in held)
        high_count = sum(spec is not None and spec.priority == "high" for spec in specs)
        return Load(agent.slots, len(held), agent.reserve_high, high_count)

    def _room_under(self, key: str, gate: Gate, now: datetime) -> int:
        setting, token = self.bounds.setting_of(key), key_token(key)
        if setting is None:
            return ADMIT_MAX
        room = ADMIT_MAX
        if setting.concurrency is not None:
            room = setting.concurrency - len(self._holders.of(token))
        limit = self.bounds.limit(key)
        left = starts_left(limit, setting, now)
        if left is None:
            return room
        if left == 0:
            self._alarms.set(gate.name, starts_at(limit, setting, 1))
        return min(room, left)

    def put_back(self, act: AdmissionAct) -> None:
        """It could not be done: it comes again."""
        if isinstance(act, Exhaust):
            self._enforce(act.state.id)
            return
        for limit in act.limits:
            self._busy.discard(limit.id)
            self._lines.touch(f"limit {limit.id}")
        for planned in act.tasks:
            task = self._tasks.get(planned.id)
            if task is None or task.spec is None:
                continue
            self._place(task, task.spec)
            # What has happened since may let it wait for a time, or for an answer: then it comes by itself.
            is_same = task.version == planned.version or task.waits_for_tasks
            if task.status in ("held", "waiting") and is_same:
                self.want(task)

    def next_at(self) -> datetime | None:
        """When something may come due."""
        return self._alarms.next_at()
