"""`fleetlog agent`: runs tasks on this host."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from fleetlog.agents.supervisor import AgentOptions, Supervisor
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.settings import child_environment
from fleetlog.cli.agent_clis import AgentClis
from fleetlog.cli.connection import run
from fleetlog.cli.flags import settings_of
from fleetlog.cli.grouping import grouped
from fleetlog.cli.health import HealthOption
from fleetlog.cli.host_limits import HostLimits
from fleetlog.cli.inputs import labels_of
from fleetlog.cli.options import WorktreeOption, absolute_paths
from fleetlog.cli.pool_options import (
    IDLE_DEFAULT,
    IdleOption,
    QueuesOption,
    ReserveOption,
    WorkersOption,
    check_reserve,
    shares_of,
    workers_of,
)
from fleetlog.cli.role import Role, run_role
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

DRAIN_DEFAULT = "30s"
GRACE_DEFAULT = "15s"


@grouped
def agent(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    *,
    queue: QueuesOption = None,
    workers: WorkersOption = None,
    shrink_after: IdleOption = IDLE_DEFAULT,
    concurrency: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Async handlers that run at once in each worker."),
    ] = 1,
    reserve_high: ReserveOption = 0,
    app: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:AGENT",
            help="Your handlers, such as fleet:agent; without them it runs commands only.",
        ),
    ] = None,
    worktree: WorktreeOption = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What this host offers; may be repeated."),
    ] = None,
    drain: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="How long running tasks get when it is told to stop."
        ),
    ] = DRAIN_DEFAULT,
    grace: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long a program that shall stop gets: SIGINT, after two thirds SIGTERM, then SIGKILL.",
        ),
    ] = GRACE_DEFAULT,
    agent_clis: AgentClis,
    host: Annotated[
        str,
        typer.Option(metavar="NAME", help="This host's name.", show_default="the machine's"),
    ] = "",
    host_limits: HostLimits,
    health: HealthOption = None,
) -> None:
    """Run tasks on this host.

    Takes tasks of its queues, and of its own queue `host-<name>`, whenever a worker is free. Any number of
    agents may serve the same queues. SIGTERM or Ctrl-C drains: nothing new is taken, running tasks finish or
    are given back, exit code 0; a second signal ends it at once. It reconnects by itself.

    While its host is short of disk, memory or file handles it takes nothing new, says so (`fleetlog agent
    list`), and goes on by itself when there is more; a floor of 0 looks at none of it.

    Agent CLIs such as claude run with the login of whoever runs the agent; with --credential claude=key they
    get the keys of its environment (ANTHROPIC_API_KEY) instead.

    With --worktree, each attempt of a command gets a folder and a branch of its own, fleetlog/TASK/ATTEMPT,
    from the commit that is checked out in REPO; what it leaves is committed. REPO's own checkout is never
    written to. `.fleetlog/worktree.toml` in REPO may name a setup command and files to copy.

    Examples:
      fleetlog agent --app fleet:agent --workers 8
      fleetlog agent --workers 2-16 --queue default --queue gpu:max=2,weight=3
      fleetlog agent --workers 8 --reserve-high 2   # high never waits behind long low tasks
      fleetlog agent --queue shop --worktree ~/src/shop
      fleetlog --url nats://hub:4222 agent --queue gpu --queue default
      fleetlog agent --credential claude=key
      fleetlog agent --label gpu=yes        # for tasks with --requires gpu=yes
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = settings_of(ctx)
    drain_s = parse_duration(drain, "drain") / 1000
    shares = shares_of(queue)
    workers_min, workers_max = workers_of(workers or str(os.cpu_count() or 1))
    options = AgentOptions(
        queues=tuple(shares),
        shares=shares,
        workers=workers_min,
        workers_max=workers_max,
        idle_s=parse_duration(shrink_after, "shrink-after") / 1000,
        concurrency=concurrency,
        reserve_high=check_reserve(reserve_high, workers_max or workers_min, concurrency),
        app=_check_app(app),
        labels=labels_of(label),
        drain_s=drain_s,
        stop_s=parse_duration(grace, "grace") / 1000,
        credentials=agent_clis.checked_credentials(),
        profiles=agent_clis.checked_profiles(),
        host=check_id(host, "host") if host else "",
        worktrees=absolute_paths(worktree),
        data=settings.data,
        floors=host_limits.floors(),
        memory_max_bytes=host_limits.memory_max_bytes(),
        environ=child_environment({}),
        version=metadata.version("fleetlog"),
    )
    made: list[Supervisor] = []

    def make(fleet: Fleet) -> Supervisor:
        made.append(Supervisor(fleet, options))
        return made[-1]

    role = Role(
        name="agent",
        make=make,
        drain_s=drain_s + options.stop_s,
        health=health,
    )
    code = run(run_role(settings, role))
    # One that `fleetlog up` keeps is started anew by it.
    if settings.lifeline_fd is None and any(each.wishes.is_restart_wanted for each in made):
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - itself
    raise typer.Exit(code)


def _check_app(app: str | None) -> str | None:
    if app is not None and not all(app.partition(":")):
        raise InvalidInput(f"--app {app!r} is not MODULE:AGENT, such as fleet:agent")
    return app
