"""`fleetlog projector`: keeps the SQL views and answers queries."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from fleetlog.bus.background import background
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.cli.connection import run
from fleetlog.cli.flags import settings_of
from fleetlog.cli.health import HealthOption
from fleetlog.cli.role import Role, run_role
from fleetlog.projections.projector import Projector
from fleetlog.projections.rebuild_service import request_rebuild

_logger = logging.getLogger(__name__)


def projector(
    ctx: typer.Context,
    *,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Build everything anew from the log; the result is the same. If a projector runs already, it"
            " does that, answering meanwhile, and this command ends then.",
        ),
    ] = False,
    health: HealthOption = None,
) -> None:
    """Keep the SQL views, answer queries.

    Reads the log into a DuckDB database in the data folder and answers `fleetlog sql` for the whole fleet. The
    database can be deleted while no projector runs: it is built again from the log. `fleetlog up` starts one.

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
        self._services = fleet.services
        self._is_rebuild = is_rebuild
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
            if not (self._is_rebuild and await self._has_another_rebuilt(stop)):
                await self._projector.run()

    async def _has_another_rebuilt(self, stop: asyncio.Event) -> bool:
        """Whether a projector runs already; it has rebuilt then, or goes on alone if this one shall stop."""
        following = asyncio.ensure_future(self._follow_rebuild())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
            return not following.done() or following.result()
        finally:
            following.cancel()
            stopping.cancel()

    async def _follow_rebuild(self) -> bool:
        seq = 0
        try:
            async for seq in request_rebuild(self._services):
                _logger.info("the running projector has rebuilt up to event %d", seq)
        except Unavailable:
            if seq == 0:
                return False
            raise
        _logger.info("the running projector goes on with what it rebuilt")
        return True

    async def _stop_in_order(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._projector.stop()
