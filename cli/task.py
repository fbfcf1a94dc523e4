"""`fleetlog task`: tasks, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetlog.bus.queues import queue_state
from fleetlog.cli.actor import ReasonOption
from fleetlog.cli.answering import answer_and_tell, value_of
from fleetlog.cli.artifacts import Wanted as ArtifactWanted
from fleetlog.cli.artifacts import tell_artifacts
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.cancelling import Wanted as CancelWanted
from fleetlog.cli.cancelling import cancel_all
from fleetlog.cli.choosing import read_choice
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.gates import gate_of
from fleetlog.cli.inputs import labels_of
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption, WaitTimeoutOption, seconds_to_wait
from fleetlog.cli.outputs import follow_output, write_output
from fleetlog.cli.refused_results import refused_line, refused_results
from fleetlog.cli.rendering import write_json
from fleetlog.cli.tables import write_table
from fleetlog.cli.task_history import attempts_of, describe, task_fields
from fleetlog.cli.task_list import Wanted, list_sql
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

app = plain_typer(no_args_is_help=True)

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]


@app.callback()
def _task() -> None:
    """List, show, answer and cancel tasks, and read what they printed and left behind.

    Example: fleetlog task list --state failed
    """


@app.command("list")
def list_tasks(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE",
            help="held, queued, claimed, waiting, completed, failed, cancelled or expired; may be repeated.",
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(metavar="QUEUE", help="Of this queue only.")] = None,
    handler: Annotated[
        str | None, typer.Option(metavar="HANDLER", help="Of this handler only.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="With this label only; may be repeated."),
    ] = None,
    needs_input: Annotated[
        bool,
        typer.Option(
            "--needs-input", help="Those that wait for an answer only, with their question."
        ),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    is_json: JsonOption = False,
) -> None:
    """List tasks, the newest first.

    Examples:
      fleetlog task list --state failed --state expired
      fleetlog task list --label team=search --limit 10 --json
      fleetlog task list --needs-input
    """
    wanted = Wanted(
        states=tuple(state or ()),
        queue=queue,
        handler=handler,
        labels=labels_of(label),
        needs_input=needs_input,
        limit=limit,
    )
    run(_list(ctx, list_sql(wanted), is_json=is_json))


@app.command()
def show(ctx: typer.Context, task: TaskArgument, *, is_json: JsonOption = False) -> None:
    """Show a task: its state, its attempts and all its events.

    It says what a task waits for, and lists results that came from workers which had lost it. It reads the log
    itself, so that what it shows is never old.

    Example: fleetlog task show 06f1k3s8zq4v5w6x7y8z9a0b1c
    """
    run(_show(ctx, task, is_json=is_json))


@app.command()
def output(
    ctx: typer.Context,
    task: TaskArgument,
    *,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of this attempt only.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has its outcome.")
    ] = False,
) -> None:
    """Print what a task printed.

    Its stdout goes to stdout, everything else to stderr. Output is kept beside the log, for a week unless it
    is too much.

    Example: fleetlog task output --follow 06f1k3s8zq4v5w6x7y8z9a0b1c
    """
    run(_output(ctx, task, attempt, is_following=follow))


@app.command()
def artifact(
    ctx: typer.Context,
    task: TaskArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Fetch this one.", show_default=False)
    ] = None,
    *,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of this attempt only.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it.", show_default="stdout"),
    ] = None,
    is_json: JsonOption = False,
) -> None:
    """List the files that a task left behind, or fetch one.

    Where several attempts left a file of that name, the last one's is fetched. What is written to FILE is
    whole, or FILE stays as it is.

    Examples:
      fleetlog task artifact 06f1k3s8zq4v5w6x7y8z9a0b1c
      fleetlog task artifact 06f1k3s8zq4v5w6x7y8z9a0b1c report.html --out report.html
    """
    wanted = ArtifactWanted(task_id=task, name=name, attempt=attempt, out=out, is_json=is_json)
    run(_artifact(ctx, wanted))


@app.command()
def answer(
    ctx: typer.Context,
    task: TaskArgument,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]", help="The answer; - reads it from stdin.", show_default=False
        ),
    ] = None,
    *,
    json_value: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="A JSON value as the answer, instead of a text."),
    ] = None,
    is_json: JsonOption = False,
) -> None:
    """Answer what a task asks, so that it goes on.

    A handler asks by NeedInput("which branch?"), a command by a line {"type": "need_input", "question": …}, an
    agent CLI by ending with such a line. The task then waits for as long as it takes, on no worker. Its next
    attempt has the answer; a session of an agent CLI goes on with it. Of two answers the first one counts.

    Examples:
      fleetlog task list --needs-input
      fleetlog task answer 06f1k3s8zq4v5w6x7y8z9a0b1c main
      fleetlog task answer 06f1k3s8zq4v5w6x7y8z9a0b1c - < letter.txt
    """
    run(_answer(ctx, task, value_of(text, json_value), is_json=is_json))


@app.command()
def cancel(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TASK...]", help="Their ids.", show_default=False),
    ] = None,
    *,
    tree: Annotated[
        bool, typer.Option("--tree", help="Also everything that these tasks caused.")
    ] = False,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE", help="All that are held, queued, claimed or waiting; may be repeated."
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(metavar="QUEUE", help="All of this queue.")] = None,
    handler: Annotated[
        str | None, typer.Option(metavar="HANDLER", help="All of this handler.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="All with this label; may be repeated."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="All that were submitted longer ago, such as 2h."),
    ] = None,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which would be cancelled, and do nothing.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until nothing of them runs any more.")
    ] = False,
    wait_timeout: WaitTimeoutOption = None,
    is_json: JsonOption = False,
) -> None:
    """Cancel tasks: by their ids, or all that fit every filter.

    One that does not run is cancelled at once. One that runs is asked to stop, then made to, and is cancelled
    when nothing of it runs any more; if it completes before, it is completed. Of one that has fanned out, the
    barrier is abandoned: its members and its continuation are cancelled. With filters it asks before it
    cancels more than one. With --tree it goes on until what was caused meanwhile is cancelled too.

    Examples:
      fleetlog task cancel --reason "wrong input" --wait 06f1k3s8zq4v5w6x7y8z9a0b1c
      fleetlog task cancel --queue gpu --label run=7 --older-than 2h --dry-run
      fleetlog task cancel --tree --yes 06f1k3s8zq4v5w6x7y8z9a0b1c
    """
    named = tuple(check_id(task_id, "task id") for task_id in tasks or ())
    choice = read_choice(
        states=state,
        queue=queue,
        handler=handler,
        label=label,
        older_than=older_than,
        tree_of=named if tree else (),
    )
    if tree and not named:
        raise InvalidInput("--tree needs the task at its root: name one")
    if not named and choice is None:
        raise InvalidInput(
            "name tasks by their ids, or choose them with --queue, --label or the like"
        )
    if named and choice is not None and not tree:
        raise InvalidInput("name tasks or choose them by filters, not both")
    wanted = CancelWanted(
        task_ids=named,
        choice=choice,
        reason=reason,
        is_waiting=wait,
        wait_timeout_s=seconds_to_wait(wait_timeout, is_waiting=wait),
        is_dry=dry_run,
        is_sure=yes,
        is_json=is_json,
    )
    raise typer.Exit(run(_cancel(ctx, wanted)))


async def _list(ctx: typer.Context, sql: str, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        header, rows = await ask_rows(client.fleet.services, sql, is_fresh=True)
    if is_json:
        write_json(rows)
    elif rows:
        shown = [name for name in rows[0] if name not in ("labels", "result")]
        write_table(shown, [[row[name] for name in shown] for row in rows])
    else:
        say("no such tasks")
    say(f"as of seq {header.seq}")


async def _show(ctx: typer.Context, task_id: str, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        history = await client.get(task_id)
        log, task = client.fleet.log, history.task
        queue = None
        if task.status == "queued" and task.spec is not None:
            queue = await queue_state(log, task.spec.queue)
            if not queue.is_paused:
                queue = await queue_state(log, task.spec.offered_on)
        gate = await gate_of(client, task)
        attempts = attempts_of(history.events, task.id)
        refused = await refused_results(log, task.id, attempts)
        if is_json:
            write_json(task_fields(history, log.now(), queue, gate) | {"refused": refused})
        else:
            typer.echo(describe(history, log.now(), queue, gate))
            for row in refused:
                typer.echo(refused_line(row))


async def _output(
    ctx: typer.Context, task_id: str, attempt: int | None, *, is_following: bool
) -> None:
    async with connected(ctx) as client:
        await client.outcome(task_id, is_fetched=False)
        if is_following:
            await follow_output(client, task_id, attempt=attempt)
        elif not await write_output(client, task_id, attempt=attempt):
            say("no output: it has printed nothing, or what it printed is no longer kept")


async def _artifact(ctx: typer.Context, wanted: ArtifactWanted) -> None:
    async with connected(ctx) as client:
        await tell_artifacts(client, wanted)


async def _answer(ctx: typer.Context, task_id: str, value: object, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        await answer_and_tell(client, task_id, value, is_json=is_json)


async def _cancel(ctx: typer.Context, wanted: CancelWanted) -> int:
    async with connected(ctx) as client:
        return await cancel_all(client, wanted)
