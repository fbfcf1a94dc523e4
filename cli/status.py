"""`fleetlog status`: what runs now, and what waits."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from fleetlog.bus.client import Client
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.settings import Settings
from fleetlog.cli.connection import run
from fleetlog.cli.failures import TIMED_OUT, say
from fleetlog.cli.flags import settings_of
from fleetlog.cli.options import JsonOption
from fleetlog.cli.overview import Overview, take_overview
from fleetlog.cli.overview_text import describe
from fleetlog.cli.rendering import write_json
from fleetlog.schemas.durations import parse_duration

LOOK_AGAIN_S = 0.2


def status(
    ctx: typer.Context,
    *,
    wait: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Wait until the fleet can take work and run it; exit code 4 if it can't in time.",
        ),
    ] = None,
    is_json: JsonOption = False,
) -> None:
    """Show what runs now, and what waits.

    The server, the agents with their workers and what these run, the tasks in each queue, the last minute's
    outcomes, and how far the SQL views are behind the log.

    Examples:
      fleetlog status
      fleetlog status --wait 30s && fleetlog submit report
    """
    settings = settings_of(ctx)
    if wait is None:
        _tell(run(_look(settings)), is_json=is_json)
        return
    timeout_s = parse_duration(wait, "wait") / 1000
    seen, why = run(_look_until_ready(settings, timeout_s))
    if seen is not None:
        _tell(seen, is_json=is_json)
    if why is not None:
        say(f"the fleet was not ready within {wait}: {why}")
        raise typer.Exit(TIMED_OUT)


async def _look(settings: Settings) -> Overview:
    async with Client.connect(settings=settings) as client:
        return await take_overview(client, settings)


async def _look_until_ready(
    settings: Settings, timeout_s: float
) -> tuple[Overview | None, str | None]:
    """The last look, and what was missing in the end; None when nothing was."""
    seen: Overview | None = None
    why = "no server answered"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    async with Client.connect(settings=settings) as client:
                        while (
                            lack := (seen := await take_overview(client, settings)).lack
                        ) is not None:
                            why = lack
                            await asyncio.sleep(LOOK_AGAIN_S)
                        return seen, None
                except Unavailable as error:
                    why = str(error)
                await asyncio.sleep(LOOK_AGAIN_S)
    except TimeoutError:
        return seen, why


def _tell(seen: Overview, *, is_json: bool) -> None:
    if is_json:
        write_json(seen)
    else:
        typer.echo(describe(seen))
