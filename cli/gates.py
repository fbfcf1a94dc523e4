"""What a held task waits for: the members of its barrier, or other tasks."""

from __future__ import annotations

from typing import Final

from fleetlog.bus.client import Client
from fleetlog.bus.core import Task
from fleetlog.bus.errors import ProjectionError, TaskNotFound, Unavailable
from fleetlog.bus.many import each_of
from fleetlog.cli.barrier import read_barrier

_NAMED_MAX: Final = 3


async def gate_of(client: Client, task: Task) -> str | None:
    """Such as `2 of 5 members of barrier X, task Y`; None if it waits for no other task."""
    if not task.waits_for_tasks or task.spec is None:
        return None
    parts = []
    if task.spec.continues is not None:
        parts.append(await _barrier_text(client, task.spec.continues))
    if task.spec.after:
        parts.append(await _tasks_text(client, task.spec.after))
    return ", ".join(parts)


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
    left = max(0, barrier["expected"] - barrier["settled"])
    return f"{left} of {barrier['expected']} members of {name}"


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
