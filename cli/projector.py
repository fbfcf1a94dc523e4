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
from fleetlog.cli.health import HealthOption
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
    health: HealthOption = None,
) -> None:
    """Keep the SQL views, answer queries.

    Reads the log into a DuckDB database in the data folder and answers `fleetlog sql` for the whole fleet. The
    database can be deleted at any time: it is built again from the log. `fleetlog up` starts one.

    Examples:
      fleetlog --url nats://hub:4222 projector --data /var/lib/fleetlog
      fleetlog projector --rebuild
    """
    settings = settings_of(ctx)

    role = Role(
        name="projector",
        make=lambda fleet: _Projecting(fleet, settings.data, is_rebuild=rebuild),
        health=health,
    )
    raise typer.Exit(run(run_role(settings, role)))


class _Projecting:
    """A projector that ends as a role does."""

    def __init__(self, fleet: Fleet, folder: Path, *, is_rebuild: bool) -> None:
        self._projector = Projector(
            fleet.log,
            folder,
            beats=fleet.beats,
            services=fleet.services,
            system=fleet.system,
            is_rebuild=is_rebuild,
        )
        self.ready = self._projector.ready

    async def run(self, stop: asyncio.Event) -> None:
        """See `Work`."""
        async with background(self._stop_in_order(stop)):
            await self._projector.run()

    async def _stop_in_order(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._projector.stop()
