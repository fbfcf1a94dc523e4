"""Process groups: every worker and every command is the leader of one, so that all of it can be ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fleetlog.bus.system import Clock

_POLL_S: Final = 0.02
_PROC: Final = Path("/proc")


def signal_group(pgid: int, number: int) -> bool:
    """Sends a signal to every process of the group; False when there is none (left)."""
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        # macOS says "not permitted" of a group that has only zombies.
        return False
    return True


async def end_groups(pgids: Iterable[int], clock: Clock, grace_s: float) -> None:
    """Ends whole process groups: SIGTERM now, SIGKILL to those that are still there after `grace_s`."""
    left = [pgid for pgid in pgids if signal_group(pgid, signal.SIGTERM)]
    give_up_at = clock.monotonic() + grace_s
    while left and clock.monotonic() < give_up_at:
        await clock.sleep(_POLL_S)
        left = [pgid for pgid in left if signal_group(pgid, 0)]
    for pgid in left:
        signal_group(pgid, signal.SIGKILL)


def kill_marked(mark: str) -> int:
    """Kills every process that was started with `mark` (`NAME=value`) in its environment; answers how many.

    Finds those that left their process group. Only where there is a `/proc`; elsewhere it does nothing.
    """
    needle = mark.encode() + b"\0"
    count = 0
    for folder in _PROC.glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            if environment.startswith(needle) or b"\0" + needle in environment:
                os.kill(int(folder.name), signal.SIGKILL)
                count += 1
        except OSError:
            # It ended meanwhile, or is another user's.
            continue
    return count


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 99` for what has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
