"""What an agent does to the machine it runs on: workers start there, and what is left of them is ended.

Behind a protocol, so that an agent also runs where there are no processes: in a simulation.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from fleetlog.agents.footprint import Footprint, footprint_of
from fleetlog.agents.groups import end_groups, signal_group, sweep
from fleetlog.agents.leftovers import Leftovers
from fleetlog.agents.wire import Wire, connect
from fleetlog.bus.system import Process, System


class Spawned(msgspec.Struct, frozen=True):
    """A worker process that has just been started."""

    process: Process
    """The process."""
    connect: Callable[[Wire[Any]], Awaitable[None]]
    """Puts the supervisor's end of the wire on it; call it once."""


class Machine(Protocol):
    """Where workers run."""

    @property
    def pid(self) -> int:
        """Of the agent's own process."""
        ...

    async def spawn(self, argv: Callable[[int], list[str]], env: Mapping[str, str]) -> Spawned:
        """Starts a worker.

        Args:
            argv: makes its command line of the number of the file that is its end of the wire.
            env: its whole environment.

        Raises:
            OSError: it cannot be started; nothing is left.
        """
        ...

    def signal_group(self, pgid: int, number: int) -> bool:
        """Sends a signal to every process of the group; False when there is none (left)."""
        ...

    async def end_groups(self, pgids: Iterable[int], grace_s: float) -> None:
        """Ends what is left of process groups: SIGTERM, and after `grace_s` SIGKILL."""
        ...

    async def sweep(self, mark: str, timeout_s: float) -> bool:
        """Kills what bears the mark; answers whether nothing of it was left in time."""
        ...

    def footprint(self, pid: int) -> Footprint | None:
        """What the process and those below it use now; None if that can't be known."""
        ...

    async def end_leftovers(self) -> None:
        """Ends, for ever, what agents that were killed have left behind."""
        ...


class LocalMachine:
    """This one. See `Machine`.

    Args:
        system: starts the processes, and knows the time.
    """

    def __init__(self, system: System) -> None:
        self._system = system

    @property
    def pid(self) -> int:
        """See `Machine`."""
        return os.getpid()

    async def spawn(self, argv: Callable[[int], list[str]], env: Mapping[str, str]) -> Spawned:
        """See `Machine`."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fd = theirs.fileno()
                process = await self._system.processes.start(argv(fd), env=env, fds=(fd,))
        except OSError:
            ours.close()
            raise
        return Spawned(process, lambda wire: connect(ours, wire))

    def signal_group(self, pgid: int, number: int) -> bool:
        """See `Machine`."""
        return signal_group(pgid, number)

    async def end_groups(self, pgids: Iterable[int], grace_s: float) -> None:
        """See `Machine`."""
        await end_groups(pgids, self._system.clock, grace_s)

    async def sweep(self, mark: str, timeout_s: float) -> bool:
        """See `Machine`."""
        return await sweep(mark, (), self._system.clock, timeout_s)

    def footprint(self, pid: int) -> Footprint | None:
        """See `Machine`."""
        return footprint_of(pid)

    async def end_leftovers(self) -> None:
        """See `Machine`."""
        await Leftovers(self._system.clock).run()
