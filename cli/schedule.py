"""`fleetlog schedule`: tasks at set times."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from fleetlog.bus.client import Client
from fleetlog.bus.core.schedule import check_name
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.schedules import (
    Wanted,
    change_schedule,
    check_wanted,
    read_schedules,
    set_schedule,
)
from fleetlog.bus.submit_options import with_options
from fleetlog.cli import options
from fleetlog.cli.actor import ReasonOption, actor
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.command_process import CommandProcess
from fleetlog.cli.connection import connected, run
from fleetlog.cli.failures import say
from fleetlog.cli.grouping import grouped
from fleetlog.cli.inputs import object_of
from fleetlog.cli.lazy import plain_typer
from fleetlog.cli.prompting import Prompting
from fleetlog.cli.rendering import write_json
from fleetlog.cli.requirements import note_missing
from fleetlog.cli.rules import Rules
from fleetlog.cli.run import command_spec
from fleetlog.cli.schedule_rule import ScheduleRule
from fleetlog.cli.schedule_text import cells, fields, next_lines, rule_text
from fleetlog.cli.tables import write_table
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import NO_ARGS, TaskSpec

app = plain_typer(no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]
_WORDS = "fleetlog.schedule.words"
_LAST = "SELECT name, last_instant, last_task_id, last_task_state, tasks FROM schedules"


class _WithCommand(TyperCommand):
    """A command line that may end with another one, behind `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_WORDS] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- CMD ARG...]"]


@app.callback()
def _schedule() -> None:
    """Make tasks at set times.

    A schedule makes a task at each instant of its rule, which is a cron text in a time zone or an interval.
    Whatever dies meanwhile, an instant makes one task. What is up to a minute late is made all the same; of
    what was missed for longer, the last one alone.

    Example: fleetlog schedule add nightly --cron "30 2 * * *" --zone Europe/Berlin -- make backup
    """


class ScheduleRules(Rules, frozen=True, kw_only=True):
    """How a schedule's tasks may run."""

    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="After it was made; no attempt of a task runs after that."
        ),
    ] = None


@app.command("add", cls=_WithCommand)
@grouped
def add(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    name: NameArgument,
    handler: Annotated[
        str | None,
        typer.Argument(
            metavar="HANDLER",
            help="A Python handler's name; or a command behind --.",
            show_default=False,
        ),
    ] = None,
    args: Annotated[
        str | None,
        typer.Argument(
            metavar="JSON",
            help="The handler's arguments: one JSON object of names and values; - reads it from stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    rule: ScheduleRule,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the schedule of this name, if there is one.")
    ] = False,
    asked: Prompting,
    process: CommandProcess,
    rules: ScheduleRules,
    unchecked: options.UncheckedOption = False,
    is_json: options.JsonOption = False,
) -> None:
    """Add a schedule: of a handler's tasks, of a command's, or of a prompt for an agent CLI.

    Each task has an id of the schedule's name and the instant in UTC, such as nightly-20261122T013000Z. The
    next three instants are printed. Adding the same schedule again changes nothing; another one of the same
    name needs --replace, and then begins anew.

    When clocks are put forward, a time of day that is skipped comes as soon as they have been; when they are
    put back, one that comes twice counts once. Where minute or hour begin with *, what the clocks show counts:
    a skipped hour has no instants, a doubled one has twice as many.

    Examples:
      fleetlog schedule add nightly --cron "30 2 * * *" --zone Europe/Berlin -- make backup
      fleetlog schedule add check-cube check_disk '{"host": "cube"}' --every 10m --overlap skip
      fleetlog schedule add triage --cron "0 8 * * mon-fri" --executor claude --prompt @triage.md
    """
    check_name(name)
    spec = _spec(ctx, handler, args, process.arguments(), asked)
    wanted = rule.wanted(with_options(spec, process.with_repo(rules.submit_options())))
    # Before there is a connection: what is wrong with the words does not depend on a server.
    check_wanted(wanted)
    run(_add(ctx, name, wanted, is_replacing=replace, is_checked=not unchecked, is_json=is_json))


@app.command("list")
def list_schedules(ctx: typer.Context, *, is_json: options.JsonOption = False) -> None:
    """List schedules: their rules, when they come next, and what they made last.

    Those that were removed are in the table `schedules` of `fleetlog sql` alone.

    Example: fleetlog schedule list
    """
    run(_list(ctx, is_json=is_json))


@app.command()
def remove(
    ctx: typer.Context,
    name: NameArgument,
    *,
    reason: ReasonOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Remove a schedule: it makes no more tasks. Those that are there go on.

    Example: fleetlog schedule remove nightly
    """
    run(_change(ctx, name, "removed", reason, is_json=is_json))


@app.command()
def pause(
    ctx: typer.Context,
    name: NameArgument,
    *,
    reason: ReasonOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Pause a schedule: it makes no tasks until it is resumed. Those that are there go on.

    Example: fleetlog schedule pause nightly --reason "the disk is being replaced"
    """
    run(_change(ctx, name, "paused", reason, is_json=is_json))


@app.command()
def resume(
    ctx: typer.Context,
    name: NameArgument,
    *,
    reason: ReasonOption = None,
    is_json: options.JsonOption = False,
) -> None:
    """Resume a paused schedule. What came during the pause is not made up for.

    Example: fleetlog schedule resume nightly
    """
    run(_change(ctx, name, "resumed", reason, is_json=is_json))


def _spec(
    ctx: typer.Context,
    handler: str | None,
    args: str | None,
    arguments: dict[str, Any],
    asked: Prompting,
) -> TaskSpec:
    words: list[str] | None = ctx.meta.get(_WORDS)
    is_command = words is not None or asked.executor is not None
    if handler is not None and is_command:
        raise InvalidInput(
            "a schedule makes one kind of task: give a handler, a command behind --, or --executor"
        )
    if is_command:
        return command_spec(ctx, words or [], arguments, asked, None)
    asked.check_unused()
    if arguments:
        raise InvalidInput(f"--{next(iter(arguments))} is for commands: give one behind --")
    if handler is None:
        raise InvalidInput(
            "what shall its tasks do? Give a handler, a command behind --, or --executor"
        )
    return TaskSpec(
        handler=handler, args=object_of(args, "arguments") if args is not None else NO_ARGS
    )


async def _add(
    ctx: typer.Context,
    name: str,
    wanted: Wanted,
    *,
    is_replacing: bool,
    is_checked: bool,
    is_json: bool,
) -> None:
    async with connected(ctx) as client:
        if is_checked:
            await client.check(wanted.spec)
            if wanted.spec.executor == "python" and client.handlers.is_empty:
                say("no agent has run in this fleet yet; its tasks will wait")
        fleet = client.fleet
        schedule, has_changed = await set_schedule(
            fleet, name, wanted, is_replacing=is_replacing, actor=actor()
        )
        await note_missing(fleet, wanted.spec)
        now = fleet.log.now()
    if is_json:
        write_json({**fields(schedule, now), "changed": has_changed})
        return
    already = "" if has_changed else " already"
    typer.echo(f"schedule {name} is set{already}: {rule_text(schedule)}")
    if schedule.status == "paused":
        typer.echo(f"it is paused: `fleetlog schedule resume {name}` ends that")
    for line in next_lines(schedule, now):
        typer.echo(line)


async def _change(
    ctx: typer.Context,
    name: str,
    verb: Literal["removed", "paused", "resumed"],
    reason: str | None,
    *,
    is_json: bool,
) -> None:
    check_name(name)
    async with connected(ctx) as client:
        schedule, has_changed = await change_schedule(
            client.fleet, name, verb, actor=actor(), reason=reason
        )
        now = client.fleet.log.now()
    if is_json:
        write_json({**fields(schedule, now), "changed": has_changed})
        return
    if has_changed or verb != "resumed":
        typer.echo(f"schedule {name} is {verb}{'' if has_changed else ' already'}")
    else:
        typer.echo(f"schedule {name} is not paused")
    for line in next_lines(schedule, now):
        typer.echo(line)


async def _list(ctx: typer.Context, *, is_json: bool) -> None:
    async with connected(ctx) as client:
        known = await read_schedules(client.fleet.log)
        last = await _last(client)
        now = client.fleet.log.now()
    rows = [
        {**fields(schedule, now), **last.get(name, dict.fromkeys(_LAST_NAMES))}
        for name, schedule in sorted(known.items())
        if schedule.is_live
    ]
    if is_json:
        write_json(rows)
    elif rows:
        names = ("schedule", "state", "rule", "zone", "runs", "next", "last task", "its state")
        write_table(names, [cells(row) for row in rows])
    else:
        say("no schedules: `fleetlog schedule add` makes one")


_LAST_NAMES = ("tasks", "last_instant", "last_task_id", "last_task_state")


async def _last(client: Client) -> dict[str, dict[str, Any]]:
    """What each made last; nothing without a projector."""
    try:
        _, rows = await ask_rows(client.fleet.services, _LAST, is_fresh=True)
    except (Unavailable, ProjectionError) as error:
        say(f"what they made is not known here: {error}")
        return {}
    return {row.pop("name"): row for row in rows}
