"""`fleetlog run`: a command, or a prompt for an agent CLI, as a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fleetlog.cli import connection, options
from fleetlog.cli.command_process import CommandProcess
from fleetlog.cli.grouping import grouped
from fleetlog.cli.inputs import encode_object
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.prompting import Prompting, SessionPrompting
from fleetlog.cli.rules import OneTaskRules
from fleetlog.cli.submitting import Submission, submit_and_tell
from fleetlog.schemas.specs import TaskSpec

_WORDS = "CMD ARG"

app = plain_typer()


@app.command(
    options_metavar="[OPTIONS] --",
    # The command's own options are the command's, with and without the dashes before it.
    context_settings={"allow_interspersed_args": False},
)
@grouped
def run(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar=_WORDS,
            help="The program and its arguments; with --executor, more arguments of the agent CLI.",
            show_default=False,
        ),
    ] = None,
    *,
    asked: SessionPrompting,
    process: CommandProcess,
    rules: OneTaskRules,
    unchecked: options.UncheckedOption = False,
    wait: options.WaitOption = False,
    wait_timeout: options.WaitTimeoutOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Submit a command as a task, or a prompt for an agent CLI.

    No shell reads the command: for pipes and the like, run one yourself (sh -c). With --wait, what it printed
    is printed here. Its exit codes 64, 65, 77 and 78 fail the task for good, 75 asks for another time, others
    are tried again. Its environment has FLEETLOG_TASK_ID, FLEETLOG_ATTEMPT and FLEETLOG_DEADLINE.

    With --executor an agent CLI gets the prompt, never in its arguments; tokens, cost and session are kept for
    each attempt. When its allowance is used up the task waits, without blame, until it begins anew.

    Examples:
      fleetlog run --wait -- echo hello
      fleetlog run --executor claude --prompt @task.md --model sonnet --max-budget-usd 2 --wait
      fleetlog run --timeout 10m --max-attempts 1 --label team=search -- make test
      fleetlog run --stdin '{"host": "cube"}' --env LEVEL=2 -- sh -c 'cat; echo $LEVEL'
    """
    submission = Submission(
        spec=command_spec(ctx, command or [], process.arguments(), asked, rules.key),
        options=process.with_repo(rules.submit_options()),
        is_waiting=wait,
        wait_timeout=wait_timeout,
        is_json=is_json,
        on_duplicate=rules.what_on_duplicate(),
        is_output_wanted=True,
        is_checked=not unchecked,
    )
    raise typer.Exit(connection.run(submit_and_tell(ctx, submission)))


def command_spec(
    ctx: typer.Context,
    words: list[str],
    arguments: dict[str, Any],
    asked: Prompting,
    key: str | None,
) -> TaskSpec:
    """The task of a command, or of a prompt for an agent CLI.

    Raises:
        InvalidInput: the options do not fit together.
    """
    if asked.executor not in (None, "command"):
        return asked.spec(asked.executor, words, arguments, key)
    asked.check_unused()
    if not words:
        ctx.fail(f"Missing argument '{_WORDS}'.")
    return TaskSpec(
        executor="command",
        handler=Path(words[0]).name or words[0],
        args=encode_object({"argv": words, **arguments}, "command"),
        key=key,
    )
