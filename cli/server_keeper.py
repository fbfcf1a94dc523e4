"""Keeps the embedded server alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fleetlog.bus.background import background
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.jetstream.room import disk_of
from fleetlog.bus.system import Clock
from fleetlog.cli.keeper import (
    RESTART_DELAY_MAX_S,
    RESTART_DELAY_MIN_S,
    STABLE_S,
    describe_exit,
)

DISK_LOOK_S: Final = 0.5


async def keep_server(server: EmbeddedServer, clock: Clock, say: Callable[[str], None]) -> None:
    """Starts the server again whenever it dies or its disk was full, on its port and store, until cancelled."""
    async with background(_end_after_full_disk(server, clock, say)):
        await _start_again(server, clock, say)


async def _end_after_full_disk(
    server: EmbeddedServer, clock: Clock, say: Callable[[str], None]
) -> None:
    """Ends the server once there is room on a disk that was full.

    Once a write of nats-server has failed, it answers no other to that stream until it ends (seen on 2.15.1).
    """
    store = server.target.store
    assert store is not None, "an embedded server's store is on this machine"
    was_out = False
    while True:
        disk = disk_of(store)
        if disk is not None and disk.is_out and not was_out:
            was_out = True
            say(
                f"the disk under {store} is full: nothing can be recorded until you make room on it"
            )
        elif disk is not None and was_out and not disk.is_full_for_submits:
            was_out = False
            say(f"there is room under {store} again; nats-server needs a new start to notice")
            server.kill()
        await clock.sleep(DISK_LOOK_S)


async def _start_again(server: EmbeddedServer, clock: Clock, say: Callable[[str], None]) -> None:
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
