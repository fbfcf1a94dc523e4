"""`fleetlog`: the command line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import Annotated, Final

import typer

from fleetlog.bus.errors import FleetlogError
from fleetlog.cli.failures import report
from fleetlog.cli.flags import asked
from fleetlog.cli.lazy import LazyGroup
from fleetlog.schemas.errors import InvalidInput

SECTIONS: Final = {
    "Start": {
        "up": ("fleetlog.cli.up:up", "Run a fleet on this machine."),
    },
    "Give it work": {
        "submit": ("fleetlog.cli.submit:submit", "Submit a task for a Python handler."),
        "map": ("fleetlog.cli.map:map_items", "Submit a task for each item of a file."),
        "run": ("fleetlog.cli.run:app", "Submit a command as a task."),
        "schedule": ("fleetlog.cli.schedule:app", "Make tasks at set times."),
        "dead": ("fleetlog.cli.dead:app", "List what has failed for good, and revive it."),
        "queue": ("fleetlog.cli.queue:app", "List, pause and resume queues."),
        "limit": (
            "fleetlog.cli.limit:app",
            "Set and list limits: how many tasks run at once, how often one starts.",
        ),
        "budget": (
            "fleetlog.cli.budget:app",
            "Set and list budgets: what tasks may use of money, tokens and time.",
        ),
        "barrier": (
            "fleetlog.cli.barrier:app",
            "List and show barriers: what waits for the members of a fan-out.",
        ),
        "task": ("fleetlog.cli.task:app", "List, show and cancel tasks, and read their output."),
    },
    "See what happens": {
        "status": ("fleetlog.cli.status:status", "Show what runs now, and what waits."),
        "credential": (
            "fleetlog.cli.credential:app",
            "List, pause and resume the credentials of agent CLIs.",
        ),
        "worktree": ("fleetlog.cli.worktree:app", "List and reap the worktrees on this host."),
        "doctor": ("fleetlog.cli.doctor:doctor", "Find what is wrong, and say what to do."),
        "sql": ("fleetlog.cli.sql:sql", "Ask the fleet's history anything, in SQL."),
        "log": ("fleetlog.cli.log:app", "Read the log itself."),
        "schema": ("fleetlog.cli.schema:app", "Describe the log for other programs."),
        "bench": ("fleetlog.cli.bench:bench", "Measure this machine."),
    },
    "Single roles, for deployments": {
        "agent": ("fleetlog.cli.agents:app", "Run tasks on this host."),
        "coordinator": ("fleetlog.cli.coordinator:coordinator", "Do what time brings."),
        "projector": ("fleetlog.cli.projector:projector", "Keep the SQL views, answer queries."),
    },
}
"""Every command, under the headings of `fleetlog --help`."""


class Commands(LazyGroup):
    """The commands of `fleetlog`."""

    sections = SECTIONS
    apart = frozenset({"up"})


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)


def main() -> None:
    """Runs one command line and ends the process with its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character is no reason to show nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run()
    finally:
        _flush()
    sys.exit(code)


def _run() -> int:
    """Runs it; answers the exit code of an error, which is gone by then with all that its frames held."""
    try:
        app(prog_name="fleetlog")
    except (FleetlogError, InvalidInput) as error:
        return report(error)
    except OSError as error:
        # Such as a full disk under stdout: nothing that a person could learn from a traceback.
        return report(FleetlogError(error.strerror or str(error)))
    return 0


def _flush() -> None:
    # Whoever read our output may have gone, as `| head` does; Python would complain about it at its end.
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_version(is_asked: bool) -> None:  # noqa: FBT001 - typer's signature
    if is_asked:
        from importlib import metadata  # noqa: PLC0415 - slow to import, and only for this

        typer.echo(f"fleetlog {metadata.version('fleetlog')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version.", callback=_show_version, expose_value=False
        ),
    ] = False,
) -> None:
    """Run fleets of agents in parallel; every step is an event in one log.

    Begin with `fleetlog up` in one terminal.

    Examples for another one:
      fleetlog run --wait -- echo hello
      fleetlog sql "SELECT state, count(*) FROM tasks GROUP BY state"

    Exit codes: 0 ok, 1 refused or the task did not complete, 2 usage, 3 no bus, 4 timed out. With --json,
    stdout holds exactly one object or array; talk goes to stderr.
    """
    del version  # Its callback has answered.
    if ctx.invoked_subcommand == "up":
        _hand_on_to_up(ctx)


def _hand_on_to_up(ctx: typer.Context) -> None:
    flags = asked(ctx).flags
    if flags.url or flags.fleet or flags.creds:
        raise InvalidInput(
            "`fleetlog up` runs a server of its own: --url and --creds are for other commands, and the fleet's"
            " name is taken from FLEETLOG_FLEET or fleetlog.toml"
        )
    ctx.default_map = {"up": {"data": flags.data}}
