"""Waiting for a task's outcome, with a line that says how it goes where someone looks on."""

from __future__ import annotations

import asyncio
import sys

from fleetlog.bus.background import background
from fleetlog.bus.client import Client
from fleetlog.bus.outcomes import Outcome
from fleetlog.cli.failures import say


async def wait_for(client: Client, task_id: str, timeout_s: float | None) -> Outcome | None:
    """The outcome; None when it did not come in time. On a terminal, stderr shows how the task goes.

    Raises:
        TaskNotFound: there is no such task.
    """
    try:
        return await _wait(client, task_id, timeout_s)
    except TimeoutError:
        return None
    except asyncio.CancelledError:
        say(f"the task goes on: {how_to_follow(task_id)}")
        raise


def how_to_follow(task_id: str) -> str:
    """For a person who stopped waiting."""
    return (
        f"see it with `fleetlog task show {task_id}`, its output with `fleetlog task output --follow"
        f" {task_id}`, end it with `fleetlog task cancel {task_id}`"
    )


async def _wait(client: Client, task_id: str, timeout_s: float | None) -> Outcome:
    if not sys.stderr.isatty():
        return await client.result(task_id, timeout_s)
    from fleetlog.cli.progress import Progress  # noqa: PLC0415 - rich, only where someone looks on

    with Progress(client, task_id) as progress:
        async with background(progress.follow_state(), progress.follow_output()):
            return await client.result(task_id, timeout_s)
