"""`fleetlog doctor`: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import typer

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import Target, resolve_target
from fleetlog.bus.errors import ConfigError, TransportError, Unavailable
from fleetlog.bus.jetstream.connection import Connection, connect
from fleetlog.bus.jetstream.lanes import lanes_seen
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import SystemClock
from fleetlog.cli import checks_server as server
from fleetlog.cli.checks import Check, describe_checks, error, ok
from fleetlog.cli.checks_fleet import (
    check_agents,
    check_coordinator,
    check_history,
    check_pauses,
)
from fleetlog.cli.connection import run
from fleetlog.cli.failures import REFUSED, UNREACHABLE
from fleetlog.cli.flags import settings_of
from fleetlog.cli.options import JsonOption
from fleetlog.cli.overview import look_at_agents, look_at_pauses, without_password
from fleetlog.cli.rendering import write_json

FLEET_TIMEOUT_S: Final = 30.0


def doctor(ctx: typer.Context, *, is_json: JsonOption = False) -> None:
    """Find what is wrong, and say what to do.

    Looks at the server and its streams, at this machine's clock and disk, at every role, and at what the
    history says; changes nothing. Exit code 0 if there is no error (a warning is none), 1 if there is one, 3
    without a bus.

    Examples:
      fleetlog doctor
      fleetlog doctor --json | jq '.[] | select(.level != "ok")'
    """
    settings = settings_of(ctx)
    checks, code = run(_examine(settings))
    if is_json:
        write_json(checks)
    else:
        typer.echo(describe_checks(checks))
    raise typer.Exit(code)


async def _examine(settings: Settings) -> tuple[list[Check], int]:
    """All checks, and the exit code."""
    checks = [check async for check in _look(settings)]
    if checks[-1].name == "bus":
        return checks, UNREACHABLE
    return checks, REFUSED if any(check.level == "error" for check in checks) else 0


async def _look(settings: Settings) -> AsyncIterator[Check]:
    for check in (server.check_folder(settings.data), server.check_disk(settings)):
        if check is not None:
            yield check
    clock = SystemClock()
    try:
        target = resolve_target(settings)
        async with connect(target, clock, name="fleetlog doctor") as connection:
            yield ok("bus", f"reachable at {without_password(target.url)}")
            is_usable = True
            async for check in _look_at_server(connection, target, settings):
                is_usable = is_usable and (check.level == "ok" or check.name == "durability")
                yield check
            yield server.check_clock(connection, clock)
    except (Unavailable, ConfigError) as failed:
        yield error("bus", "not reachable", str(failed))
        return
    if is_usable:
        try:
            async with asyncio.timeout(FLEET_TIMEOUT_S):
                async for check in _look_at_fleet(settings, target):
                    yield check
        except TimeoutError:
            advice = (
                "see whether the server is well, in a cluster whether most of its servers are there"
            )
            yield error("fleet", f"the log can't be read within {FLEET_TIMEOUT_S:.0f} s", advice)
        except (TransportError, ConfigError) as failed:
            yield error("fleet", "can't be looked at", str(failed))


async def _look_at_server(
    connection: Connection, target: Target, settings: Settings
) -> AsyncIterator[Check]:
    yield server.check_server_version(connection)
    yield await server.check_durability(target)
    try:
        yield await server.check_streams(connection, settings.fleet)
    except TransportError as failed:
        yield error("streams", "JetStream does not answer", str(failed))


async def _look_at_fleet(settings: Settings, target: Target) -> AsyncIterator[Check]:
    async with Client.connect(settings=settings, target=target) as client:
        fleet = client.fleet
        usage = await fleet.room.usage()
        yield server.check_log_size(usage)
        yield server.check_subjects(usage)
        yield check_agents(await look_at_agents(fleet))
        yield check_pauses(await look_at_pauses(fleet))
        yield await check_coordinator(fleet)
        for check in await check_history(fleet, await lanes_seen(fleet.link, fleet.name)):
            yield check
