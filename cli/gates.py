"""What a task waits for besides time: other tasks, room, its turn, or an agent that can run it."""

from __future__ import annotations

from typing import Any, Final

from fleetlog.bus.client import Client
from fleetlog.bus.core import Task
from fleetlog.bus.errors import ProjectionError, TaskNotFound, Unavailable
from fleetlog.bus.many import each_of
from fleetlog.cli.asking import ask_rows, literal
from fleetlog.cli.barrier import read_barrier
from fleetlog.cli.requirements import agent_text
from fleetlog.cli.room import room_text

_NAMED_MAX: Final = 3
_OF_PARENT: Final = """
SELECT barrier_id, expected, settled FROM barriers
WHERE state = 'open' AND parent_id = {task_id} ORDER BY opened_at, barrier_id
"""


async def gate_of(client: Client, task: Task) -> str | None:
    """Such as `2 of 5 members of barrier X, task Y`, `limit github (3 of 3)`; None if for nothing such."""
    if task.status == "queued" and task.spec is not None and task.spec.requires:
        return await agent_text(client.fleet, task.spec)
    if task.status == "claimed":
        return await _gathered_text(client, task.id)
    if task.status not in ("held", "waiting") or task.spec is None:
        return None
    parts = []
    if task.waits_for_tasks and task.spec.continues is not None:
        parts.append(await _barrier_text(client, task.spec.continues))
    if task.waits_for_tasks and task.spec.after:
        parts.append(await _tasks_text(client, task.spec.after))
    is_due = task.due_at is not None and task.due_at <= client.fleet.log.now()
    if is_due and not parts and task.needs_admission:
        parts.append(await room_text(client, task))
    return ", ".join(parts) or None


async def _barrier_text(client: Client, barrier_id: str) -> str:
    name = f"barrier {barrier_id}"
    try:
        barrier = await read_barrier(client.fleet.services, barrier_id)
    except (Unavailable, ProjectionError):
        return f"{name}; how far that is a projector would know"
    if barrier is None:
        return f"{name}, which the log does not hold"
    if barrier["state"] != "open":
        return f"a coordinator: {name} is {barrier['state']}"
    return _missing_text(barrier)


async def _gathered_text(client: Client, task_id: str) -> str | None:
    """A handler that gathers waits for barriers of its own, which only the projection finds by it."""
    question = _OF_PARENT.format(task_id=literal(task_id))
    try:
        _, rows = await ask_rows(client.fleet.services, question, is_fresh=True)
    except (Unavailable, ProjectionError):
        return None
    return ", ".join(map(_missing_text, rows)) or None


def _missing_text(barrier: dict[str, Any]) -> str:
    left = max(0, barrier["expected"] - barrier["settled"])
    return f"{left} of {barrier['expected']} members of barrier {barrier['barrier_id']}"


async def _tasks_text(client: Client, task_ids: tuple[str, ...]) -> str:
    async def is_open(task_id: str) -> bool:
        try:
            return await client.outcome(task_id, is_fetched=False) is None
        except TaskNotFound:
            return False

    open_ids = [task_id async for task_id, is_so in each_of(task_ids, is_open) if is_so]
    if not open_ids:
        return "a coordinator: the tasks before it have ended"
    named = ", ".join(open_ids[:_NAMED_MAX])
    if len(open_ids) > _NAMED_MAX:
        named += f" and {len(open_ids) - _NAMED_MAX} more"
    if len(task_ids) == 1:
        return f"task {named}"
    return f"{len(open_ids)} of {len(task_ids)} tasks: {named}"
