"""Programs of agents that were killed together with their workers, so that nobody was left to end them.

Every worker, and all that it starts, has a mark in its environment that begins with the agent's process: its
pid namespace, id and start. Any agent of the same machine ends what bears the mark of a process that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleetlog.bus.system import Clock

logger = logging.getLogger("fleetlog.agents")

LOOK_S: Final = 10.0
"""An owner must be gone for two looks: a worker without one ends by itself, and in order."""
_NAME: Final = b"FLEETLOG_WORKER_MARK="
_PROC: Final = Path("/proc")


def owner() -> str:
    """What the marks of this process's workers begin with; without a `/proc` it tells nobody anything."""
    return f"{_namespace()}-{os.getpid()}-{_started(os.getpid())}"


class Leftovers:
    """Ends programs whose agent is gone.

    Args:
        clock: for the pauses.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gone: set[str] = set()

    async def run(self) -> None:
        """Looks every few seconds, for ever."""
        if not _PROC.is_dir():
            return
        while True:
            await asyncio.to_thread(self.look)
            await self._clock.sleep(LOOK_S)

    def look(self) -> int:
        """Ends what belongs to owners that were gone at the last look too; answers how many processes."""
        found: dict[str, list[int]] = {}
        for pid, holder in _marked():
            if _is_gone(holder):
                found.setdefault(holder, []).append(pid)
        doomed = [pid for holder, pids in found.items() if holder in self._gone for pid in pids]
        self._gone = set(found)
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # it has ended
            logger.warning("process %d was left behind by an agent that was killed: ended", pid)
        return len(doomed)


def _marked() -> Iterator[tuple[int, str]]:
    """Processes with a mark, and whose."""
    for folder in _PROC.glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or is another user's
        mark = next((each for each in variables if each.startswith(_NAME)), None)
        if mark is not None:
            holder = mark.removeprefix(_NAME).partition(b".")[0]
            yield int(folder.name), holder.decode(errors="replace")


def _is_gone(holder: str) -> bool:
    """Whether it names a process of this namespace that is no more."""
    match holder.split("-"):
        case [namespace, pid, started] if pid.isdecimal() and started.isdecimal():
            return namespace == _namespace() and _started(int(pid)) != started
        case _:
            return False


def _namespace() -> str:
    """Of process ids: the same number means another process in another one."""
    try:
        return (_PROC / "self" / "ns" / "pid").readlink().name.strip("pid:[]")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process started, in ticks since boot; empty when it is no more."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
