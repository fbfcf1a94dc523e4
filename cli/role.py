"""How a long-running role lives: it connects, works until it is told to stop, drains, and ends."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final, Protocol

import msgspec

from fleetlog.bus.background import background
from fleetlog.bus.embedded.runtime import resolve_target
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.settings import Settings
from fleetlog.cli.failures import REFUSED
from fleetlog.cli.health import health_served
from fleetlog.cli.lifeline import watch_lifeline

PATIENT_S: Final = 10.0
"""How long one try to connect lasts for a role that tries for ever."""
AGAIN_S: Final = 0.5
MARGIN_S: Final = 10.0
"""What a role may take to end beyond its drain."""

_logger = logging.getLogger("fleetlog.cli")


class Work(Protocol):
    """What a role does, once it is connected."""

    ready: asyncio.Event
    """Set when it does what it is there for."""

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, then ends in order."""
        ...


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One long-running command."""

    name: str
    """Shown by the server as the connection's name."""
    make: Callable[[Fleet], Work]
    """Gives what it does, on a fleet."""
    drain_s: float = 5.0
    """How long its work may take to end in order."""
    health: int | None = None
    """The port on which it tells how it is; see `health_served`."""


async def run_role(settings: Settings, role: Role) -> int:
    """Runs a role until SIGTERM, SIGINT or the end of its lifeline; answers the exit code.

    The first signal lets the work end in order, a second one ends it at once. A role that `fleetlog up` started
    waits for its server for as long as it takes; one started by hand fails if there is none.

    Raises:
        Unavailable: no server answers.
        FleetlogError: the work failed.
    """
    _log_as(role.name)
    stopping = Stopping()
    with stopping.signals():
        async with (
            health_served(role.health, stopping.lack),
            background(watch_lifeline(settings.lifeline_fd, stopping.on_orphaned)),
        ):
            working = asyncio.ensure_future(_connect_and_work(settings, role, stopping))
            await stopping.wait_asked(working)
            if not working.done() and not stopping.is_working:
                working.cancel()
            return await _end(working, stopping, role)


class Stopping:
    """What a role has been told about its end."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """It shall end in order."""
        self.hurried = asyncio.Event()
        """It shall end at once."""
        self.is_working = False
        """It has been connected, so that there is something to end in order."""
        self._fleet: Fleet | None = None
        self._work: Work | None = None

    def on_working(self, fleet: Fleet, work: Work) -> None:
        """It is connected and begins."""
        self.is_working = True
        self._fleet, self._work = fleet, work

    def lack(self) -> str | None:
        """Why it is not ready; None when it is."""
        if self.asked.is_set():
            return "it has been told to stop"
        if self._fleet is None or self._work is None:
            return "it has not been connected to the bus yet"
        if not self._fleet.link.is_connected:
            return "the connection to the bus is gone"
        return None if self._work.ready.is_set() else "it is starting"

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Listens to SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def on_orphaned(self) -> None:
        """The `fleetlog up` that started this role has gone."""
        _logger.warning("`fleetlog up` has gone: stopping")
        self.asked.set()

    async def wait_asked(self, working: asyncio.Future[None]) -> None:
        """Waits until it shall end, or has."""
        await _first_of(working, self.asked, None)

    async def wait_ended(self, working: asyncio.Future[None], timeout_s: float) -> None:
        """Waits until it has ended, shall end at once, or has taken too long."""
        await _first_of(working, self.hurried, timeout_s)

    def _on_signal(self) -> None:
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()


async def _connect_and_work(settings: Settings, role: Role, stopping: Stopping) -> None:
    async with AsyncExitStack() as stack:
        fleet = await _connect(stack, settings, role)
        work = role.make(fleet)
        stopping.on_working(fleet, work)
        await work.run(stopping.asked)


async def _connect(stack: AsyncExitStack, settings: Settings, role: Role) -> Fleet:
    is_patient = settings.lifeline_fd is not None
    while True:
        try:
            opening = open_fleet(
                resolve_target(settings),
                settings.fleet,
                role=role.name,
                patience_s=PATIENT_S,
            )
            return await stack.enter_async_context(opening)
        except Unavailable as error:
            if not is_patient:
                raise
            _logger.warning("%s waits for its server: %s", role.name, error)
            await asyncio.sleep(AGAIN_S)


async def _end(working: asyncio.Future[None], stopping: Stopping, role: Role) -> int:
    await stopping.wait_ended(working, role.drain_s + MARGIN_S)
    if working.done():
        if not working.cancelled():
            working.result()
        return 0
    _logger.warning("%s ends at once; what it held goes to others when its lease ends", role.name)
    working.cancel()
    await asyncio.wait((working,))
    return REFUSED


def _log_as(name: str) -> None:
    root = logging.getLogger()
    logging.basicConfig(force=True, level=root.level, format=f"%(asctime)s {name}: %(message)s")
    logging.getLogger("fleetlog").setLevel(min(logging.INFO, root.level))


async def _first_of(
    working: asyncio.Future[None], event: asyncio.Event, timeout_s: float | None
) -> None:
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait((working, waiting), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
