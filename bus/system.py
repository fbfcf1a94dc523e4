"""What the rules may not touch themselves, behind protocols: clock, entropy, ids, processes.

Production code gets all of it from a `System`, so that a whole fleet can run in virtual time from one seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from fleetlog.schemas.ids import ENTROPY_BYTES, time_ordered_id

_STDERR = 2
_POOL_BYTES = 4096


class Clock(Protocol):
    """Time: the wall clock for records, the monotonic one for intervals."""

    def now(self) -> datetime:
        """The present instant, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some start, never going back."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits."""
        ...


class Entropy(Protocol):
    """Randomness."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""
        ...


class Process(Protocol):
    """A child process, as `asyncio.subprocess.Process` has it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        ...

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        ...

    def send_signal(self, signal: int) -> None:
        """Sends a signal to it."""
        ...


class ProcessStarter(Protocol):
    """Starts child processes."""

    async def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, fds: Sequence[int] = ()
    ) -> Process:
        """Starts `argv` in a session of its own; it inherits `fds` and stderr, and its stdout is our stderr."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """See `Clock`."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(delay_s)


class SystemEntropy:
    """The operating system's randomness for ids, a seeded generator for jitter."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0
        os.register_at_fork(after_in_child=self._forget)

    def random(self) -> float:
        """See `Entropy`."""
        return random.random()  # noqa: S311 - jitter is no secret

    def bytes(self, count: int) -> bytes:
        """See `Entropy`."""
        # Drawn ahead: a system call for each id is a tenth of what a no-op task costs its agent.
        end = self._used + count
        if end > len(self._pool):
            self._pool = os.urandom(max(count, _POOL_BYTES))
            self._used, end = 0, count
        drawn = self._pool[self._used : end]
        self._used = end
        return drawn

    def _forget(self) -> None:
        self._pool = b""
        self._used = 0


class SystemProcesses:
    """Real child processes."""

    async def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, fds: Sequence[int] = ()
    ) -> Process:
        """See `ProcessStarter`.

        Raises:
            OSError: the program cannot be started.
        """
        return await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env) if env is not None else None,
            pass_fds=tuple(fds),
            stdin=asyncio.subprocess.DEVNULL,
            # Whoever reads our stdout must not have to wait for a child that outlives us.
            stdout=_STDERR,
            start_new_session=True,
        )


class System(msgspec.Struct, frozen=True):
    """The seams to the machine, given to everything that needs one."""

    clock: Clock = msgspec.field(default_factory=SystemClock)
    """Time."""
    entropy: Entropy = msgspec.field(default_factory=SystemEntropy)
    """Randomness."""
    processes: ProcessStarter = msgspec.field(default_factory=SystemProcesses)
    """Child processes."""

    def new_id(self) -> str:
        """A fresh time-ordered id."""
        at_ms = int(self.clock.now().timestamp() * 1000)
        return time_ordered_id(at_ms, self.entropy.bytes(ENTROPY_BYTES))
