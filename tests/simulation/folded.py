"""What the core's folds make of a log: the rows that a projection must show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from support.barrier_reading import Reading
from support.expected_tasks import Expected, task_row

from fleetlog.bus.core import Task
from fleetlog.bus.core.schedule import Schedule, evolve_schedule, instant_of
from fleetlog.bus.queues import Queues
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Recorded, Stored
from fleetlog.schemas.events import BarrierAbandoned, BarrierReleased, verb_of
from fleetlog.schemas.ids import key_token

Key = tuple[Any, ...]
Row = dict[str, Any]


class Table(NamedTuple):
    """What a table or a view must hold."""

    name: str
    key: tuple[str, ...]
    """The columns that tell its rows apart."""
    rows: dict[Key, Row]
    """By key, the columns that are compared: not all of them in each row."""
    source: str = ""
    """A query in its place, where its words are not the fold's."""
    is_whole: bool = True
    """It has no other rows."""
    unsure: frozenset[Key] = frozenset()
    """Rows that may be missing."""


class Folded:
    """The folds of a log as far as it was taken.

    Args:
        objects: what the object store held, by digest.
    """

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects
        self._unsettled = Unsettled()
        self._tasks: dict[str, Expected] = {}
        self._queues = Queues()
        self._schedules: dict[str, Schedule] = {}
        self._records: list[Recorded] = []

    @property
    def seq(self) -> int:
        """The last event that was taken."""
        return len(self._records)

    def take(self, stored: Stored) -> None:
        """The next event."""
        record = self._unsettled.take(stored)
        self._queues.take([stored])
        self._records.append(record)
        if record.subject is None:
            return
        thing_id = record.subject.id
        if record.subject.kind == "task":
            self._tasks.setdefault(thing_id, Expected(Task(id=thing_id))).take(record)
        elif record.subject.kind == "schedule":
            known = self._schedules.get(thing_id) or Schedule(name=thing_id)
            self._schedules[thing_id] = evolve_schedule(known, record)

    def tables(self) -> Iterator[Table]:
        """All that can be compared."""
        yield from (self._of_tasks(), self._of_attempts(), self._of_violations())
        yield from (self._of_agents(), self._of_queues(), self._of_credentials())
        yield from (self._of_limits(), self._of_budgets(), self._of_schedules())
        reading = Reading(self._records, self._objects)
        yield from (_of_barriers(reading), _of_members(reading))

    def _of_tasks(self) -> Table:
        rows: dict[Key, Row] = {}
        for task_id, expected in self._tasks.items():
            spec = expected.task.spec
            if (row := task_row(expected)) is not None and spec is not None:
                rows[(task_id,)] = row | {"queue": spec.queue, "priority": spec.priority}
        return Table("tasks", ("task_id",), rows)

    def _of_attempts(self) -> Table:
        rows = {
            (task_id, attempt["fence"]): attempt
            for task_id, expected in self._tasks.items()
            for attempt in expected.attempts
        }
        return Table("attempts", ("task_id", "fence"), rows)

    def _of_violations(self) -> Table:
        rows: dict[Key, Row] = {(s,): {} for e in self._tasks.values() for s in e.not_permitted}
        source = "FROM events WHERE is_violation OR problem IS NOT NULL"
        return Table("events", ("seq",), rows, source)

    def _of_agents(self) -> Table:
        fold = self._unsettled
        agents = (*fold.agents.values(), *fold.ended.values())
        rows: dict[Key, Row] = {
            # One whose start was lost has no host that anyone knows.
            (agent.id,): {
                "state": agent.status,
                "host": agent.host or None,
                "is_ended": agent.is_ended,
            }
            for agent in agents
        }
        source = (
            "SELECT * REPLACE (CASE state WHEN 'strained' THEN 'running' ELSE state END AS state),"
            " ended_at IS NOT NULL AS is_ended FROM agents"
        )
        return Table("agents", ("agent_id",), rows, source)

    def _of_queues(self) -> Table:
        rows: dict[Key, Row] = {
            (state.queue,): {
                "is_paused": state.is_paused,
                "paused_at": state.paused_at,
                "resumed_at": state.resumed_at,
                "actor": state.actor,
                "reason": state.reason,
                "seq": state.seq,
            }
            for state in self._queues.states.values()
            if state.seq
        }
        return Table("queues", ("queue",), rows)

    def _of_credentials(self) -> Table:
        rows: dict[Key, Row] = {}
        for each in self._unsettled.admission.bounds.credentials.values():
            row: Row = {"state": "paused" if each.pause else "active"}
            row["paused_until"] = each.pause.until if each.pause else None
            rows[(each.name,)] = row
        return Table("credentials", ("credential",), rows, is_whole=False)

    def _of_limits(self) -> Table:
        admission, tasks = self._unsettled.admission, self._unsettled.tasks.values()
        specs = [(task, task.spec) for task in tasks if task.spec is not None]
        known = admission.bounds.limits.values()
        keys = {limit.key for limit in known if limit.setting is not None}
        keys.update(key for _, spec in specs for key in spec.limits)
        rows: dict[Key, Row] = {}
        for key in keys:
            setting = admission.bounds.setting_of(key)
            under = [task.status for task, spec in specs if key in spec.limits]
            rows[(key,)] = {
                "holders": len(admission._holders.of(key_token(key))),
                "waiting": sum(status in ("held", "waiting") for status in under),
                "setting_key": setting.key if setting else None,
                "concurrency": setting.concurrency if setting else None,
                "rate": setting.rate if setting else None,
            }
        return Table("limits", ("key",), rows)

    def _of_budgets(self) -> Table:
        admission = self._unsettled.admission
        rows: dict[Key, Row] = {}
        for token, state in admission.budgets.items():
            if state.budget is None:
                continue
            rows[(state.key,)] = {
                "action": state.budget.action,
                "tokens": state.budget.tokens,
                "wall_ms": state.budget.wall_ms,
                "spent_tokens": state.spent.tokens,
                "spent_wall_ms": state.spent.wall_ms,
                "exhausted_resource": state.exhausted,
                "open_tasks": len(admission._under.of(token)),
            }
        return Table("budgets", ("key",), rows, is_whole=False)

    def _of_schedules(self) -> Table:
        rows: dict[Key, Row] = {}
        for name, schedule in self._schedules.items():
            if (rule := schedule.rule) is None:
                continue
            instants = ((instant_of(name, task_id), task_id) for task_id in self._tasks)
            made = {at: task_id for at, task_id in instants if at is not None}
            last = max(made, default=None)
            task = self._tasks[made[last]].task if last is not None else None
            rows[(name,)] = {
                "state": schedule.status,
                "set_at": schedule.set_at,
                "cron": rule.cron,
                "every_ms": rule.every_ms,
                "tasks": len(made),
                "last_instant": last,
                "last_task_id": task.id if task else None,
                "last_task_state": task.status if task else None,
            }
        return Table("schedules", ("name",), rows)


def _of_barriers(reading: Reading) -> Table:
    rows: dict[Key, Row] = {}
    for barrier_id in reading.openings:
        plan, ends = reading.plan(barrier_id), reading.ends[barrier_id]
        event = ends[0].event if ends else None
        row: Row = {
            "expected": plan.count,
            "continuation_id": plan.then.task_id if plan.then else None,
            "state": verb_of(event) if isinstance(event, _End) else "open",
            "ended_at": ends[0].stored_at if ends else None,
        }
        if isinstance(event, BarrierReleased) or (isinstance(event, _End) and event.expected):
            row |= {"settled": event.settled, "succeeded": event.succeeded}
        elif plan.members_ref is None:
            row |= _counts(reading, barrier_id, ends[0].seq if ends else None)
        rows[(barrier_id,)] = row
    return Table("barriers", ("barrier_id",), rows)


def _counts(reading: Reading, barrier_id: str, before: int | None) -> Row:
    outcomes = [reading.outcome(member.task_id) for member in reading.members(barrier_id)]
    settled = [each for each in outcomes if each and (before is None or each.seq < before)]
    return {"settled": len(settled), "succeeded": sum(map(reading.is_success, settled))}


def _of_members(reading: Reading) -> Table:
    rows: dict[Key, Row] = {}
    unsure: set[Key] = set()
    for barrier_id in reading.openings:
        is_stored = reading.plan(barrier_id).members_ref is not None
        for position, member in enumerate(reading.members(barrier_id), 1):
            key = (barrier_id, member.task_id)
            outcome = reading.outcome(member.task_id)
            row: Row = {"settled_seq": outcome.seq if outcome else None}
            if outcome:
                row["state"] = _state_after(outcome)
            if is_stored:
                unsure.add(key)
            else:
                row["position"] = position
            rows[key] = row
    key_columns = ("barrier_id", "task_id")
    return Table("barrier_members", key_columns, rows, unsure=frozenset(unsure))


def _state_after(outcome: Recorded) -> str:
    match event := outcome.event:
        case BarrierAbandoned():
            return "failed" if event.why == "policy" else "cancelled"
        case BarrierReleased():
            return "completed"
        case _:
            return verb_of(event)  # type: ignore[arg-type]  # an outcome is known


_End = BarrierReleased | BarrierAbandoned
