"""What `submit` and `run` have in common: submit, perhaps wait, and tell."""

from __future__ import annotations

import msgspec
import typer

from fleetlog.bus.client import Client
from fleetlog.bus.core.commands import OnDuplicate
from fleetlog.bus.handles import Submitted
from fleetlog.bus.outcomes import Outcome
from fleetlog.bus.submit_options import SubmitOptions, with_options
from fleetlog.cli.connection import connected
from fleetlog.cli.failures import say
from fleetlog.cli.options import seconds_to_wait
from fleetlog.cli.outcomes import tell_outcome
from fleetlog.cli.rendering import write_json
from fleetlog.cli.requirements import note_missing
from fleetlog.cli.waiting import wait_for
from fleetlog.schemas.specs import TaskSpec, check_spec

ANSWER_TIMEOUT_S = 30.0
"""How long the log may take to accept a task; afterwards a person should know."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One task, and what the caller wants to see."""

    spec: TaskSpec
    """The work."""
    options: SubmitOptions
    """How it shall run."""
    is_waiting: bool
    """Wait for the outcome."""
    wait_timeout: str | None
    """No longer than this."""
    is_json: bool
    """For programs."""
    is_output_wanted: bool = False
    """With the outcome, what the task printed."""
    is_checked: bool = False
    """Refuse what no handler of the fleet would take, and what names a limit or budget that nobody has set."""
    on_duplicate: OnDuplicate = "return"
    """What to do when the key is there already."""


async def submit_and_tell(ctx: typer.Context, submission: Submission) -> int:
    """Submits, waits if wanted, and prints; answers the exit code."""
    timeout_s = seconds_to_wait(submission.wait_timeout, is_waiting=submission.is_waiting)
    # Checked before there is a connection: what is wrong with the words does not depend on a server.
    spec = check_spec(with_options(submission.spec, submission.options))
    async with connected(ctx) as client:
        submitted = await client.submit(
            spec,
            timeout_s=ANSWER_TIMEOUT_S,
            is_checked=submission.is_checked,
            on_duplicate=submission.on_duplicate,
        )
        is_of_handler = spec.executor == "python"
        if is_of_handler and submission.is_checked and client.handlers.is_empty:
            say("no agent has run in this fleet yet; the task waits")
        await note_missing(client.fleet, spec)
        if not submission.is_waiting:
            _tell_submitted(submitted, is_json=submission.is_json)
            return 0
        outcome = await wait_for(client, submitted.task_id, timeout_s)
        return await _tell(client, submission, submitted.task_id, outcome)


async def _tell(
    client: Client, submission: Submission, task_id: str, outcome: Outcome | None
) -> int:
    return await tell_outcome(
        client,
        task_id,
        outcome,
        is_json=submission.is_json,
        is_output_wanted=submission.is_output_wanted,
    )


def _tell_submitted(submitted: Submitted, *, is_json: bool) -> None:
    if is_json:
        write_json(
            {
                "task_id": submitted.task_id,
                "seq": submitted.seq,
                "duplicate": submitted.is_duplicate,
            }
        )
        return
    if submitted.is_duplicate:
        say(f"this is the task that was submitted before, as event {submitted.seq}")
    typer.echo(submitted.task_id)
