"""Agents and coordinators as processes of their own, which a test may kill or pause."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fleetlog.bus.embedded.runtime import Target
from support.fleets import TESTS, agent, coordinator
from support.measuring import measured_at_first
from support.targets import target_of, text_of


class FleetProcess:
    """One role in a process.

    Attributes:
        process: it.
        role_id: the agent's or the coordinator's id at its start.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.role_id = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    async def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def process_of(
    role: Literal["agent", "coordinator"], target: Target, fleet: str, *, workers: int = 1
) -> AsyncIterator[FleetProcess]:
    """Starts the role and returns once it is ready; killed at the end of the block."""
    encoded = text_of(target)
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.fleet_process", role, encoded, fleet, str(workers)),
        env=measured_at_first({**os.environ, "PYTHONPATH": TESTS}, role),
        stdout=asyncio.subprocess.PIPE,
    )
    one = FleetProcess(started)
    try:
        assert started.stdout is not None
        one.role_id = (await started.stdout.readline()).decode().strip()
        assert one.role_id, "it ended before it was ready"
        yield one
    finally:
        await one.kill()


async def _main(role: str, target: str, fleet: str, workers: str) -> None:
    decoded = target_of(target)
    if role == "agent":
        async with agent(decoded, fleet, workers=int(workers)) as one:
            await _forever(one.agent_id)
    async with coordinator(decoded, fleet) as other:
        await _forever(other.lookout.coordinator_id)


async def _forever(role_id: str) -> None:
    print(role_id, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
