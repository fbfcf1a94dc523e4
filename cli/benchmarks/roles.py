"""Roles as processes of their own, and what they use."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fleetlog.bus.coordinator_state import ask_coordinator
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.settings import child_environment
from fleetlog.projections.query import SqlRequest, query

LOOK_S = 0.05


@asynccontextmanager
async def role(data: Path, fleet: str, *words: str) -> AsyncIterator[int]:
    """Runs `fleetlog WORDS` against the server on `data` during the block; gives its process id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleetlog.cli", *words),
        env=child_environment({"FLEETLOG_DATA": str(data), "FLEETLOG_FLEET": fleet}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def coordinator_ready(opened: Fleet) -> None:
    """Waits until a coordinator of the fleet acts."""
    while True:
        try:
            state = await ask_coordinator(opened.services, 5.0)
        except Unavailable:
            state = None
        if state is not None and state.is_ready and state.active_id is not None:
            return
        await asyncio.sleep(LOOK_S)


async def projector_ready(opened: Fleet) -> None:
    """Waits until the fleet's projector holds all that is in the log now."""
    while True:
        try:
            _, rows = await query(opened.services, SqlRequest(sql="SELECT 1", is_fresh=True))
        except Unavailable:
            await asyncio.sleep(LOOK_S)
        else:
            async for _ in rows:
                pass
            return


def cpu_s(pid: int) -> float:
    """Seconds of processor time of a process so far. Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had, in MB. Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return 0.0
