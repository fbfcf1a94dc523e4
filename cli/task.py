"""`fleetlog task`: tasks, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetlog.bus.queues import queue_state
from fleetlog.cli.artifacts import Wanted as ArtifactWanted
from fleetlog.cli.artifacts import tell_artifacts
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.cancelling import cancel_all
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.inputs import labels_of
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.options import JsonOption
from fleetlog.cli.outputs import follow_output, write_output
from fleetlog.cli.rendering import write_json
from fleetlog.cli.tables import write_table
from fleetlog.cli.task_history import describe, task_fields
from fleetlog.cli.task_list import Wanted, list_sql

app = plain_typer(no_args_is_help=True)

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]


@app.callback()
def _task() -> None:
    """List, show and cancel tasks, and read what they printed and left behind.

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
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 50,
    is_json: JsonOption = False,
) -> None:
    """List tasks, the newest first.

    Examples:
      fleetlog task list --state failed --state expired
      fleetlog task list --label team=search --limit 10 --json
    """
    wanted = Wanted(
        states=tuple(state or ()),
        queue=queue,
        handler=handler,
        labels=labels_of(label),
        limit=limit,
    )
    run(_list(ctx, list_sql(wanted), is_json=is_json))


@app.command()
def show(ctx: typer.Context, task: TaskArgument, *, is_json: JsonOption = False) -> None:
    """Show a task: its state, its attempts and all its events.

    It says what a task waits for. It reads the log itself, so that what it shows is never old.

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
def cancel(
    ctx: typer.Context,
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Their ids.")],
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; it is kept in the log.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until nothing of them runs any more.")
    ] = False,
    is_json: JsonOption = False,
) -> None:
    """Cancel tasks.

    One that does not run is cancelled at once. One that runs is asked to stop, then made to, and is cancelled
    when nothing of it runs any more; if it completes before, it is completed.

    Example: fleetlog task cancel --reason "wrong input" --wait 06f1k3s8zq4v5w6x7y8z9a0b1c
    """
    raise typer.Exit(
        run(_cancel(ctx, tuple(tasks), reason=reason, is_waiting=wait, is_json=is_json))
    )


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
        if is_json:
            write_json(task_fields(history, log.now(), queue))
        else:
            typer.echo(describe(history, log.now(), queue))


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


async def _cancel(
    ctx: typer.Context,
    task_ids: tuple[str, ...],
    *,
    reason: str | None,
    is_waiting: bool,
    is_json: bool,
) -> int:
    async with connected(ctx) as client:
        return await cancel_all(
            client, task_ids, reason=reason, is_waiting=is_waiting, is_json=is_json
        )
