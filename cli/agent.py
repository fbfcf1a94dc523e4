"""`fleetlog agent`: runs tasks on this host."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from fleetlog.agents.agent_options import AgentOptions
from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.settings import child_environment
from fleetlog.cli.agent_clis import AgentClis
from fleetlog.cli.agent_pool import AgentPool, Patience
from fleetlog.cli.connection import run
from fleetlog.cli.flags import settings_of
from fleetlog.cli.grouping import grouped
from fleetlog.cli.health import HealthOption
from fleetlog.cli.host_limits import HostLimits
from fleetlog.cli.inputs import labels_of
from fleetlog.cli.options import WorktreeOption, absolute_paths
from fleetlog.cli.role import Role, run_role
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id


@grouped
def agent(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    *,
    pool: AgentPool,
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
    patience: Patience,
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
    plain = AgentOptions(
        app=_check_app(app),
        labels=labels_of(label),
        drain_s=patience.drain_s(),
        stop_s=patience.stop_s(),
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
    options = pool.applied(plain)
    made: list[Supervisor] = []

    def make(fleet: Fleet) -> Supervisor:
        made.append(Supervisor(fleet, options))
        return made[-1]

    role = Role(
        name="agent",
        make=make,
        drain_s=options.drain_s + options.stop_s,
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
