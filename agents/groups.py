"""Process groups: every worker and every command is the leader of one, so that all of it can be ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
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


async def stop_groups(pgids: Iterable[int], clock: Clock, stop_s: float) -> None:
    """Stops whole process groups: SIGINT, after two thirds of `stop_s` SIGTERM, after all of it SIGKILL."""
    rungs = ((signal.SIGINT, stop_s * 2 / 3), (signal.SIGTERM, stop_s / 3))
    await _climb(pgids, clock, rungs)


async def end_groups(pgids: Iterable[int], clock: Clock, grace_s: float) -> None:
    """Ends what is left of process groups: SIGTERM, and after `grace_s` SIGKILL."""
    await _climb(pgids, clock, ((signal.SIGTERM, grace_s),))


async def _climb(
    pgids: Iterable[int], clock: Clock, rungs: Sequence[tuple[signal.Signals, float]]
) -> None:
    left = list(pgids)
    for number, wait_s in rungs:
        left = [pgid for pgid in left if signal_group(pgid, number)]
        give_up_at = clock.monotonic() + wait_s
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


async def sweep(mark: str, kin: Iterable[Kin], clock: Clock, timeout_s: float) -> bool:
    """Kills what bears the mark and what is left of `kin`; answers whether nothing of it was left in time."""
    kin = tuple(kin)
    give_up_at = clock.monotonic() + timeout_s
    while kill_marked(mark) + _kill(kin):
        if clock.monotonic() >= give_up_at:
            return False
        await clock.sleep(_POLL_S)
    return True


Kin = tuple[int, int]
"""A process: its id, and when it started, since ids are used again."""


def descendants(pid: int) -> set[Kin]:
    """The processes below `pid` as they are now, whatever group they are in; none without a `/proc`."""
    children: dict[int, list[Kin]] = {}
    for parent, kin in _processes():
        children.setdefault(parent, []).append(kin)
    found: set[Kin] = set()
    waiting = [pid]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found.update(below)
        waiting += [child for child, _ in below]
    return found


def _kill(kin: Iterable[Kin]) -> int:
    count = 0
    for pid, started in kin:
        now = _stat(_PROC / str(pid))
        if now is not None and now[1] == started:
            try:
                os.kill(pid, signal.SIGKILL)
                count += 1
            except OSError:
                continue
    return count


def _processes() -> Iterator[tuple[int, Kin]]:
    for folder in _PROC.glob("[0-9]*"):
        stat = _stat(folder)
        if stat is not None:
            yield stat[0], (int(folder.name), stat[1])


def _stat(folder: Path) -> tuple[int, int] | None:
    """A process's parent and start; None when it has ended, collected or not."""
    try:
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), int(fields[19]))


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 99` for what has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
