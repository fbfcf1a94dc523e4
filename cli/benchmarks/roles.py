"""Roles as processes of their own, and what they use."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fleetlog.bus.settings import child_environment


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
