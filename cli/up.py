"""`fleetlog up`: a whole fleet on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop

from fleetlog.bus.embedded.runtime import Attested, attest_durability
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import (
    ENVIRONMENT,
    Durability,
    Overrides,
    Settings,
    child_environment,
    load_settings,
)
from fleetlog.bus.system import Clock, System
from fleetlog.cli.agent_clis import AgentClis
from fleetlog.cli.grouping import grouped
from fleetlog.cli.keeper import Keeper, Role
from fleetlog.cli.lifeline import Lifeline
from fleetlog.cli.options import WorktreeOption, absolute_paths
from fleetlog.cli.pool_options import ReserveOption, WorkersOption, check_reserve, workers_of
from fleetlog.cli.server_keeper import keep_server
from fleetlog.cli.stop_signals import StopSignals

AGENT_DRAIN_S: Final = 30.0
_KILL_MARGIN_S: Final = 20.0  # what does not obey takes its agent 15 s
_STOPPING: Final = f"stopping; running tasks have {AGENT_DRAIN_S:g} s, Ctrl-C again hurries"


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `fleetlog up` was asked for, beside the settings."""

    workers: str
    """How many worker processes its agent keeps, as `--workers` has it."""
    reserve_high: int = 0
    """So many of its slots are for high tasks alone."""
    app: str | None = None
    """`module:agent` with the handlers; None for commands only."""
    agent_clis: tuple[str, ...] = ()
    """What its agent is told about agent CLIs, as options."""
    worktrees: tuple[Path, ...] = ()
    """The repositories that its agent is given."""
    is_ephemeral: bool = False
    """Whether the data folder goes with the fleet."""
    notes: tuple[str, ...] = ()
    """What the person should know first."""
    exports: tuple[str, ...] = ()
    """What other terminals must set to find this fleet, as shell lines."""


@grouped
def up(  # noqa: PLR0913 - one parameter per option
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the log, the views and the server's files.")
    ] = None,
    workers: WorkersOption = None,
    reserve_high: ReserveOption = 0,
    app: Annotated[
        str | None, typer.Option(metavar="MODULE:AGENT", help="Your handlers, such as fleet:agent.")
    ] = None,
    worktree: WorktreeOption = None,
    durability: Annotated[
        Durability | None,
        typer.Option(
            help="always: what is acknowledged is on disk; relaxed: faster, a power loss"
            " takes up to one second.",
            show_default="always",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port for clients.", show_default="a free one"),
    ] = None,
    agent_clis: AgentClis,
    no_web: Annotated[bool, typer.Option("--no-web", help="Without the dashboard.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="In a temporary folder, removed at the end.")
    ] = False,
) -> None:
    """Run a fleet on this machine: log, coordinator, projector and an agent with workers.

    Stays in the foreground; Ctrl-C lets running tasks finish (30 s) and stops, a second one hurries. Each part
    that dies is started again within two seconds. Everything stays on this machine: loopback only.

    Example: fleetlog up --app fleet:agent --workers 4
    """
    del no_web  # Nothing to leave out yet; scripts may say it already.
    if ephemeral and data is not None:
        raise typer.BadParameter("--ephemeral makes its own folder: leave out --data")
    if ephemeral and worktree:
        raise typer.BadParameter("--worktree needs a folder that stays: leave out --ephemeral")
    workers = workers or str(os.cpu_count() or 1)
    workers_min, workers_max = workers_of(workers)
    check_reserve(reserve_high, workers_max or workers_min)
    plain = load_settings()
    with _data_folder(data, is_ephemeral=ephemeral) as folder:
        settings = load_settings(Overrides(data=folder, durability=durability, port=port, url=""))
        options = UpOptions(
            workers=workers,
            reserve_high=reserve_high,
            app=app,
            agent_clis=agent_clis.words(),
            worktrees=absolute_paths(worktree),
            is_ephemeral=ephemeral,
            notes=_notes(plain),
            exports=_exports(plain, settings),
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_up(settings, options, roles=fleet_roles(options)))


def fleet_roles(options: UpOptions) -> tuple[Role, ...]:
    """The roles of a fleet on one machine, in the order of their start."""
    command = (sys.executable, "-m", "fleetlog.cli")
    app = ("--app", options.app) if options.app is not None else ()
    trees = (word for path in options.worktrees for word in ("--worktree", str(path)))
    high = ("--reserve-high", str(options.reserve_high)) if options.reserve_high else ()
    own = ("--workers", options.workers, *high, *app, *options.agent_clis, *trees)
    agent = (*command, "agent", *own)
    cleaner = Role(name="cleaner", argv=(sys.executable, "-m", "fleetlog.cli.cleaner"))
    return (
        *([cleaner] if options.is_ephemeral else []),
        Role(name="coordinator", argv=(*command, "coordinator")),
        Role(name="projector", argv=(*command, "projector")),
        Role(name="agent", argv=agent, drain_s=AGENT_DRAIN_S + _KILL_MARGIN_S),
    )


async def run_up(
    settings: Settings,
    options: UpOptions,
    *,
    roles: tuple[Role, ...],
    system: System | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Runs the server and the roles until SIGINT, SIGTERM or SIGHUP, then stops them in order.

    Raises:
        Refused: a fleet runs on the settings' data folder already.
        ConfigError: the server does not start, or a role refuses its options.
        Unavailable: the server did not come up in time.
    """
    system, say = system or System(), say or say_on_stderr
    for note in options.notes:
        say(note)
    with Lifeline() as lifeline, StopSignals(lambda: say(_STOPPING)) as signals:
        try:
            async with EmbeddedServer(settings, system=system, notice=say) as server:
                keeper = Keeper(
                    roles,
                    env=_role_environment(settings, lifeline),
                    fds=(lifeline.read_fd,),
                    system=system,
                    say=say,
                )
                signals.keeper = keeper
                await _keep(server, keeper, options, clock=system.clock, say=say)
        except asyncio.CancelledError:
            if not signals.has_cancelled:
                raise
    say("fleetlog has stopped")


async def _keep(
    server: EmbeddedServer,
    keeper: Keeper,
    options: UpOptions,
    *,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    attested = await attest_durability(server.target.http_url)
    refusal: ConfigError | None = None
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(keep_server(server, clock, say))
        try:
            await keeper.run(lambda: say(_overview(server, keeper, attested, options)))
        except ConfigError as error:
            # The group would wrap it; nothing failed that the group must know.
            refusal = error
        watch.cancel()
    if refusal is not None:
        raise refusal


def say_on_stderr(text: str) -> None:
    """Writes one message for people; stdout stays for data."""
    # Whoever read our messages may have gone; that is no reason to end a fleet.
    with contextlib.suppress(BrokenPipeError):
        typer.echo(text, err=True)


@contextlib.contextmanager
def _data_folder(data: Path | None, *, is_ephemeral: bool) -> Iterator[Path | None]:
    if not is_ephemeral:
        yield data
        return
    folder = Path(tempfile.mkdtemp(prefix="fleetlog-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _role_environment(settings: Settings, lifeline: Lifeline) -> dict[str, str]:
    return child_environment(
        {
            ENVIRONMENT["data"]: str(settings.data),
            ENVIRONMENT["fleet"]: settings.fleet,
            ENVIRONMENT["lifeline_fd"]: str(lifeline.read_fd),
            # Empty: whatever address a fleetlog.toml names, the roles of this fleet belong to this server.
            ENVIRONMENT["url"]: "",
        }
    )


def _notes(plain: Settings) -> tuple[str, ...]:
    if plain.url is None:
        return ()
    return (
        f"note: other commands go to {plain.url} as long as {ENVIRONMENT['url']} or fleetlog.toml"
        " says so, not to the fleet that starts here",
    )


def _exports(plain: Settings, settings: Settings) -> tuple[str, ...]:
    if plain.data == settings.data:
        return ()
    return (f"export {ENVIRONMENT['data']}={shlex.quote(str(settings.data))}",)


def _overview(
    server: EmbeddedServer, keeper: Keeper, attested: Attested, options: UpOptions
) -> str:
    running = server.running
    rows = [
        f"fleet {running.fleet!r} runs, durability {attested}:",
        f"  nats-server  pid {running.server_pid}, {running.url}, all in {server.data}",
        *(f"  {name:<12} pid {pid}" for name, pid in keeper.pids.items()),
        f"  workers      {options.workers}",
    ]
    if options.exports:
        rows += ["in other terminals, first:", *(f"  {line}" for line in options.exports)]
    first = "fleetlog run --wait -- echo hello"
    if options.app is not None:
        first = "fleetlog submit --wait HANDLER '{\"argument\": 1}'"
    return "\n".join([*rows, f"a first task:  {first}", "stop with Ctrl-C"])
