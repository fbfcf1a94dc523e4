"""`fleetlog submit`: a task for a Python handler."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetlog.cli import options
from fleetlog.cli.connection import run
from fleetlog.cli.grouping import grouped
from fleetlog.cli.inputs import object_of
from fleetlog.cli.rules import OneTaskRules
from fleetlog.cli.submitting import Submission, submit_and_tell
from fleetlog.schemas.specs import NO_ARGS, TaskSpec


@grouped
def submit(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    handler: Annotated[str, typer.Argument(metavar="HANDLER", help="Its name.")],
    args: Annotated[
        str | None,
        typer.Argument(
            metavar="[JSON]",
            help="Its arguments: one JSON object of names and values; - reads it from stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    rules: OneTaskRules,
    unchecked: options.UncheckedOption = False,
    wait: options.WaitOption = False,
    wait_timeout: options.WaitTimeoutOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Submit a task for a Python handler.

    When this returns, the task is in the log and can't be lost; its id is on stdout. With --key, submitting
    again is safe: it is the same task. With --wait, the result is on stdout. Durations are written 250ms, 30s,
    1h30m, 2d. Once agents have run in the fleet, a handler that none of them ever had and arguments that do not
    fit are refused, unless --unchecked.

    Examples:
      fleetlog submit check_disk '{"host": "cube"}' --wait
      fleetlog submit report --key report-2031-05 --priority high --max-attempts 5
      fleetlog submit report --after 06f1k3s8zq4v5w6x7y8z9a0b1c
      echo '{"host": "cube"}' | fleetlog submit check_disk -
    """
    spec = TaskSpec(
        handler=handler,
        args=object_of(args, "arguments") if args is not None else NO_ARGS,
        key=rules.key,
    )
    submission = Submission(
        spec=spec,
        options=rules.submit_options(),
        is_waiting=wait,
        wait_timeout=wait_timeout,
        is_json=is_json,
        on_duplicate=rules.what_on_duplicate(),
        is_checked=not unchecked,
    )
    raise typer.Exit(run(submit_and_tell(ctx, submission)))
