"""`due` and `resume`: what time and a crash leave for someone to do. The coordinator asks; anyone may act."""

from __future__ import annotations

from datetime import datetime

from fleetlog.bus.core.agent import AgentState
from fleetlog.bus.core.commands import Expire, Queue, RequestCancel, Return
from fleetlog.bus.core.decide import passed_limit
from fleetlog.bus.core.task import Task, instant_after

_NOT_STARTED = ("held", "queued", "waiting")


def due(task: Task, now: datetime) -> Queue | Expire | None:
    """The command whose time has come, if any.

    Its id is derived from the task's version: two coordinators that act on the same state do the same act.
    """
    if task.status not in _NOT_STARTED:
        return None
    if passed_limit(task, now) is not None:
        return Expire(id=_derived_id(task, "expire"))
    if task.moves_at is not None and task.moves_at <= now:
        return Queue(id=_derived_id(task, "move"))
    if task.due_at is not None and task.due_at <= now and not task.waits_for_tasks:
        return Queue(id=_derived_id(task, "queue"))
    return None


def next_due_at(task: Task) -> datetime | None:
    """The first instant at which `due` may have a command; None when only an event can bring one."""
    if task.status not in _NOT_STARTED or task.spec is None:
        return None
    instants = [task.due_at] if task.due_at and not task.waits_for_tasks else []
    if task.moves_at is not None:
        instants.append(task.moves_at)
    if (end := expires_at(task)) is not None:
        instants.append(end)
    if task.status == "queued" and task.since and task.spec.start_within_ms is not None:
        instants.append(instant_after(task.since, task.spec.start_within_ms))
    return min(instants, default=None)


def expires_at(task: Task) -> datetime | None:
    """When its overall time is over."""
    if task.submitted_at is None or task.spec is None or task.spec.expires_ms is None:
        return None
    return instant_after(task.submitted_at, task.spec.expires_ms)


def resume(task: Task, holder: AgentState | None = None) -> RequestCancel | Return | None:
    """The append that the last events still owe, whoever wrote them and then died.

    A task that waits although its end was asked for must not run again, and a claim ends with its agent.

    Args:
        task: as its events tell it.
        holder: the agent that holds the task's lease, if its own events are known.
    """
    if task.is_cancel_requested and task.status in _NOT_STARTED:
        return RequestCancel(id=_derived_id(task, "cancel"))
    if task.lease is not None and holder is not None and holder.is_ended:
        return Return(
            id=_derived_id(task, "return"),
            cause=holder.end_id,
            fence=task.lease.fence,
            error_class="lost",
            error=f"its agent {holder.id} on {task.lease.host} was {holder.status}",
        )
    return None


def _derived_id(task: Task, act: str) -> str:
    return f"{task.id}-{task.version}-{act}"
