"""Cancelling several tasks, and telling what became of each."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from fleetlog.bus.client import Client
from fleetlog.bus.errors import Refused
from fleetlog.cli.actor import actor
from fleetlog.cli.failures import REFUSED, say
from fleetlog.cli.outcomes import outcome_fields
from fleetlog.cli.rendering import write_json
from fleetlog.schemas.ids import check_id


async def cancel_all(
    client: Client,
    task_ids: Sequence[str],
    *,
    reason: str | None,
    is_waiting: bool,
    is_json: bool,
) -> int:
    """Cancels the tasks; one that can't be cancelled keeps none of the others. Answers the exit code."""
    for task_id in task_ids:
        check_id(task_id, "task id")
    told: list[dict[str, object]] = []
    is_refused = False
    for task_id in dict.fromkeys(task_ids):
        try:
            await client.cancel(task_id, reason=reason, actor=actor())
        except Refused as error:
            say(f"Error: {error}")
            is_refused = True
        else:
            told.append(await _tell(client, task_id, is_waiting=is_waiting, is_json=is_json))
    if is_json:
        write_json(told)
    is_as_wanted = not is_waiting or all(row["state"] == "cancelled" for row in told)
    return REFUSED if is_refused or not is_as_wanted else 0


async def _tell(
    client: Client, task_id: str, *, is_waiting: bool, is_json: bool
) -> dict[str, object]:
    outcome = await (client.result(task_id) if is_waiting else client.outcome(task_id))
    if outcome is not None:
        fields = outcome_fields(outcome)
    else:
        fields = {"task_id": task_id, "state": "cancel_requested"}
    if not is_json:
        text = "is asked to end" if outcome is None else f"is {outcome.state}"
        typer.echo(f"task {task_id} {text}")
    return fields
