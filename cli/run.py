"""`fleetlog run`: a command as a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fleetlog.cli import connection, options
from fleetlog.cli.inputs import encode_object, json_of, pairs_of
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.submitting import Submission, submit_and_tell
from fleetlog.schemas.specs import TaskSpec

app = plain_typer()


@app.command(
    options_metavar="[OPTIONS] --",
    # The command's own options are the command's, with and without the dashes before it.
    context_settings={"allow_interspersed_args": False},
)
def run(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="CMD ARG", help="The program and its arguments.", show_default=False
        ),
    ],
    *,
    stdin: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="The payload of the document on its stdin; - reads it from here."
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Added to its environment; may be repeated."),
    ] = None,
    cwd: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where it runs, on the agent's host.",
            show_default="the agent's folder",
        ),
    ] = None,
    queue: options.QueueOption = None,
    priority: options.PriorityOption = None,
    key: options.KeyOption = None,
    label: options.LabelOption = None,
    timeout: options.TimeoutOption = None,
    start_within: options.StartWithinOption = None,
    silence: options.SilenceOption = None,
    expires: options.ExpiresOption = None,
    max_attempts: options.MaxAttemptsOption = None,
    delay: options.DelayOption = None,
    wait: options.WaitOption = False,
    wait_timeout: options.WaitTimeoutOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Submit a command as a task.

    No shell reads the command: for pipes and the like, run one yourself (sh -c). With --wait, what it printed
    is printed here. Its exit codes 64, 65, 77 and 78 fail the task for good, 75 asks for another time, others
    are tried again. Its environment has FLEETLOG_TASK_ID, FLEETLOG_ATTEMPT and FLEETLOG_DEADLINE.

    Examples:
      fleetlog run --wait -- echo hello
      fleetlog run --timeout 10m --max-attempts 1 --label team=search -- make test
      fleetlog run --stdin '{"host": "cube"}' --env LEVEL=2 -- sh -c 'cat; echo $LEVEL'
    """
    arguments: dict[str, Any] = {"argv": command}
    if stdin is not None:
        arguments["stdin"] = json_of(stdin, "payload for stdin")
    if env:
        arguments["env"] = pairs_of(env, "variable")
    if cwd is not None:
        arguments["cwd"] = cwd
    submission = Submission(
        spec=TaskSpec(
            executor="command",
            handler=Path(command[0]).name or command[0],
            args=encode_object(arguments, "command"),
            key=key,
        ),
        options=options.submit_options(
            queue=queue,
            priority=priority,
            label=label,
            timeout=timeout,
            start_within=start_within,
            silence=silence,
            expires=expires,
            max_attempts=max_attempts,
            delay=delay,
        ),
        is_waiting=wait,
        wait_timeout=wait_timeout,
        is_json=is_json,
        is_output_wanted=True,
    )
    raise typer.Exit(connection.run(submit_and_tell(ctx, submission)))
