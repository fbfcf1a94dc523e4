"""Telling a person or a program how a task ended."""

from __future__ import annotations

import typer

from fleetlog.bus.client import Client
from fleetlog.bus.outcomes import Outcome
from fleetlog.cli.failures import REFUSED, TIMED_OUT, say
from fleetlog.cli.outputs import write_output
from fleetlog.cli.rendering import json_text, printable, write_json
from fleetlog.cli.waiting import how_to_follow


async def tell_outcome(
    client: Client, task_id: str, outcome: Outcome | None, *, is_json: bool, is_output_wanted: bool
) -> int:
    """Prints the outcome; None means that it did not come in time. Answers the exit code."""
    if outcome is None:
        return await _tell_late(client, task_id, is_json=is_json)
    if is_json:
        write_json(outcome_fields(outcome))
    elif is_output_wanted:
        await _tell_output(client, outcome)
    elif outcome.is_completed:
        typer.echo(_plain(outcome.result))
    if outcome.is_completed:
        return 0
    if not is_json:
        _tell_failure(outcome, is_short=is_output_wanted)
    return REFUSED


def outcome_fields(outcome: Outcome) -> dict[str, object]:
    """The outcome as programs get it."""
    return {
        "task_id": outcome.task_id,
        "state": outcome.state,
        "result": outcome.result,
        "error": outcome.error,
        "attempts": outcome.attempts,
    }


async def _tell_late(client: Client, task_id: str, *, is_json: bool) -> int:
    if is_json:
        task = (await client.get(task_id)).task
        # One that fanned out has completed itself; what it led to has not.
        state = "open" if task.is_settled else task.status
        late = Outcome(task_id=task_id, state=state, attempts=task.attempts)
        write_json(outcome_fields(late))
    say(f"task {task_id} has not settled in time and goes on: {how_to_follow(task_id)}")
    return TIMED_OUT


async def _tell_output(client: Client, outcome: Outcome) -> None:
    kinds = await write_output(client, outcome.task_id, attempt=outcome.attempts)
    # Output lies beside the log and may be gone; the end of it is the result where the command named none.
    if "stdout" not in kinds and isinstance(outcome.result, str) and outcome.result:
        typer.echo(outcome.result)


def _tell_failure(outcome: Outcome, *, is_short: bool) -> None:
    error = outcome.error or "no reason given"
    if is_short:
        error = error.partition("\n")[0]
    kind = f" ({outcome.error_class})" if outcome.error_class not in (None, outcome.state) else ""
    times = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
    say(f"task {outcome.task_id} {outcome.state} after {times}{kind}: {printable(error)}")


def _plain(result: object) -> str:
    return result if isinstance(result, str) else json_text(result)
