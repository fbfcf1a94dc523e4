"""The keeper: keeps named child processes, the roles, alive until it is told to stop them in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import Process, System

RESTART_DELAY_MIN_S: Final = 0.1
RESTART_DELAY_MAX_S: Final = 1.5
STABLE_S: Final = 10.0
"""What lived this long starts again without a grown delay."""
_EXIT_USAGE: Final = 2


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One child process to keep."""

    name: str
    """For messages; unique."""
    argv: tuple[str, ...]
    """How to start it."""
    drain_s: float = 10.0
    """How long it may take to end after SIGTERM."""


class Keeper:
    """Starts roles in order, restarts each within two seconds of its death, ends them in reverse order.

    A role that ends with exit code 2 within its first ten seconds refuses its options: that is not tried
    again, and everything stops.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        *,
        env: Mapping[str, str],
        fds: Sequence[int] = (),
        system: System | None = None,
        say: Callable[[str], None],
    ) -> None:
        """Args:
        roles: what to keep, in the order of starting.
        env: the whole environment of the roles.
        fds: what they inherit, such as the lifeline.
        system: clock and processes; None for the machine's.
        say: is told what a person should know.
        """
        self._roles = tuple(roles)
        self._env = env
        self._fds = fds
        self._system = system or System()
        self._say = say
        self._stopping = asyncio.Event()
        self._hurried = False
        self._processes: dict[str, Process] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The roles that run, in the order of their first start."""
        return {
            name: process.pid
            for name, process in self._processes.items()
            if process.returncode is None
        }

    async def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Keeps the roles until `stop`; returns when all have ended. Cancelling kills them at once.

        Args:
            on_started: is called once, when every role has been started.

        Raises:
            ConfigError: a role refused its options (exit code 2); the others were stopped in order.
        """
        refusals: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                for role in self._roles:
                    first = await self._start(role)
                    group.create_task(self._keep(role, first, refusals))
                on_started()
                await self._stopping.wait()
                for role in reversed(self._roles):
                    await self._end(role)
        finally:
            self._kill_all()
            for process in self._processes.values():
                await process.wait()
        if refusals:
            raise ConfigError("; ".join(refusals))

    def stop(self) -> None:
        """Begins to end the roles: each gets SIGTERM and its time, then SIGKILL. Again changes nothing."""
        self._stopping.set()

    def hurry(self) -> None:
        """Stops, and kills what is still there instead of waiting for it."""
        self._stopping.set()
        self._hurried = True
        self._kill_all()

    async def _keep(self, role: Role, first: Process | None, refusals: list[str]) -> None:
        clock = self._system.clock
        delay_s, process = RESTART_DELAY_MIN_S, first
        while not self._stopping.is_set():
            started_at = clock.monotonic()
            code = await process.wait() if process is not None else None
            if self._stopping.is_set():
                return
            is_stable = clock.monotonic() - started_at > STABLE_S
            if code == _EXIT_USAGE and not is_stable:
                refusals.append(f"the {role.name} does not start with these options, see above")
                self.stop()
                return
            if is_stable:
                delay_s = RESTART_DELAY_MIN_S
            if code is not None:
                self._say(f"{role.name} {describe_exit(code)}; starting it again")
            await self._pause(delay_s)
            delay_s = min(delay_s * 2, RESTART_DELAY_MAX_S)
            if not self._stopping.is_set():
                process = await self._start(role)
        # A stop that came during the start found no process to end.
        await self._end(role)

    async def _pause(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()

    async def _start(self, role: Role) -> Process | None:
        try:
            process = await self._system.processes.start(role.argv, env=self._env, fds=self._fds)
        except OSError as error:
            self._say(f"{role.name} can't be started ({error.strerror}); trying again")
            return None
        self._processes[role.name] = process
        return process

    async def _end(self, role: Role) -> None:
        process = self._processes.get(role.name)
        if process is None or process.returncode is not None:
            return
        _send(process, signal.SIGKILL if self._hurried else signal.SIGTERM)
        try:
            async with asyncio.timeout(role.drain_s):
                await process.wait()
        except TimeoutError:
            self._say(f"{role.name} did not end within {role.drain_s:g} s and is killed")
            _send(process, signal.SIGKILL)
            await process.wait()

    def _kill_all(self) -> None:
        for process in self._processes.values():
            _send(process, signal.SIGKILL)


def describe_exit(code: int) -> str:
    """How a process ended, in words: `ended with exit code 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _send(process: Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
