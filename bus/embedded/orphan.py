"""A server that outlived the process that kept it: found, made sure of, and stopped before another starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.files import is_held
from fleetlog.bus.embedded.runtime import read_running
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import Clock

_KILL_S: Final = 5.0
_POLL_S: Final = 0.02
_HAS_PROC: Final = Path("/proc/self/cmdline").exists()


async def find_orphan(folder: Folder, clock: Clock, *, patience_s: float = 3.0) -> int:
    """The process id of the nats-server that holds this folder's `server.lock`.

    The id comes from the server's own files and counts only if that process runs this folder's configuration;
    a server that is only starting has not written it yet, so this looks again
    for `patience_s`.

    Raises:
        ConfigError: the lock is held and no such process was found.
    """
    deadline = clock.monotonic() + patience_s
    while clock.monotonic() < deadline:
        for pid in _candidates(folder):
            if str(folder.config) in await command_line(pid):
                return pid
        await clock.sleep(_POLL_S)
    raise ConfigError(
        f"a process holds {folder.data}/server.lock and its id is not known: find it with"
        f" `fuser {folder.data}/server.lock`, stop it and try again"
    )


async def stop_orphan(folder: Folder, pid: int, clock: Clock, *, term_s: float = 10.0) -> None:
    """Stops the server and returns once the store is free: SIGTERM, then SIGKILL after `term_s`.

    Raises:
        ConfigError: it would not end.
    """
    for number, patience_s in ((signal.SIGTERM, term_s), (signal.SIGKILL, _KILL_S)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = clock.monotonic() + patience_s
        while is_held(folder.lock):
            if clock.monotonic() > deadline:
                break
            await clock.sleep(_POLL_S)
        else:
            return
    raise ConfigError(f"nats-server (pid {pid}) on {folder.data} does not end: stop it by hand")


async def command_line(pid: int) -> str:
    """The command line of a process; empty if there is no such process."""
    return read_proc(pid) if _HAS_PROC else await ask_ps(pid)


async def ask_ps(pid: int) -> str:
    """`command_line` on systems without /proc."""
    child = await asyncio.create_subprocess_exec(
        *("ps", "-ww", "-o", "command=", "-p", str(pid)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    return os.fsdecode(output)


def read_proc(pid: int) -> str:
    """`command_line` on systems with /proc."""
    try:
        found = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(found.replace(b"\0", b" "))


def _candidates(folder: Folder) -> list[int]:
    found = []
    with contextlib.suppress(OSError, ValueError):
        found.append(int(folder.pid.read_text()))
    if (running := read_running(folder.data)) is not None:
        found.append(running.server_pid)
    return [pid for pid in found if pid > 1]
