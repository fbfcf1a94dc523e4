"""Keeps the embedded server alive."""

from __future__ import annotations

from collections.abc import Callable

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.system import Clock
from fleetlog.cli.keeper import (
    RESTART_DELAY_MAX_S,
    RESTART_DELAY_MIN_S,
    STABLE_S,
    describe_exit,
)


async def keep_server(server: EmbeddedServer, clock: Clock, say: Callable[[str], None]) -> None:
    """Starts the server again whenever it dies, on its port and store; goes on until cancelled."""
    delay_s = 0.0
    while True:
        started_at = clock.monotonic()
        code = await server.wait()
        say(f"nats-server {describe_exit(code)}; starting it again")
        # At once the first time; a server that keeps dying waits longer and longer.
        is_stable = clock.monotonic() - started_at > STABLE_S
        delay_s = 0.0 if is_stable else delay_s
        while not await _has_restarted(server, delay_s, clock, say):
            delay_s = _longer(delay_s)
        delay_s = _longer(delay_s)
        say(f"nats-server runs again at {server.running.url}, pid {server.running.server_pid}")


async def _has_restarted(
    server: EmbeddedServer, delay_s: float, clock: Clock, say: Callable[[str], None]
) -> bool:
    await clock.sleep(delay_s)
    try:
        await server.restart()
    except FleetlogError as error:
        say(str(error))
        return False
    return True


def _longer(delay_s: float) -> float:
    return min(max(delay_s * 2, RESTART_DELAY_MIN_S), RESTART_DELAY_MAX_S)
