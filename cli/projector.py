"""`fleetlog projector`: keeps the SQL views and answers queries."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from fleetlog.bus.background import background
from fleetlog.bus.fleet import Fleet
from fleetlog.cli.connection import run
from fleetlog.cli.flags import settings_of
from fleetlog.cli.role import Role, run_role
from fleetlog.projections.projector import Projector


def projector(
    ctx: typer.Context,
    *,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="First build everything anew from the log; the result is the same."
        ),
    ] = False,
) -> None:
    """Keep the SQL views, answer queries.

    Reads the log into a DuckDB database in the data folder and answers `fleetlog sql` for the whole fleet. The
    database can be deleted at any time: it is built again from the log. `fleetlog up` starts one.

    Examples:
      fleetlog --url nats://hub:4222 projector --data /var/lib/fleetlog
      fleetlog projector --rebuild
    """
    settings = settings_of(ctx)

    async def work(fleet: Fleet, stop: asyncio.Event) -> None:
        await _project(fleet, settings.data, stop, is_rebuild=rebuild)

    raise typer.Exit(run(run_role(settings, Role(name="projector", work=work))))


async def _project(fleet: Fleet, folder: Path, stop: asyncio.Event, *, is_rebuild: bool) -> None:
    projector = Projector(
        fleet.log,
        folder,
        beats=fleet.beats,
        services=fleet.services,
        system=fleet.system,
        is_rebuild=is_rebuild,
    )

    async def stop_in_order() -> None:
        await stop.wait()
        projector.stop()

    async with background(stop_in_order()):
        await projector.run()
