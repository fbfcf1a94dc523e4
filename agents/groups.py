"""Process groups: every worker and every command is the leader of one, so that all of it can be ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from fleetlog.bus.system import Clock

_POLL_S: Final = 0.02
_PROC: Final = Path("/proc")
_LOOKS: Final = 3
"""How often it is looked again because of processes that show no environment; some never show one."""
_KERNEL_THREAD: Final = 0x0020_0000
"""`PF_KTHREAD` of the flags in `/proc/PID/stat`."""


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


def kill_marked(mark: str) -> None:
    """Kills every process that was started with `mark` (`NAME=value`) in its environment, at once.

    Finds those that left their process group. Only where there is a `/proc`; elsewhere it does nothing.
    """
    for _ in range(_LOOKS):
        if not any(_kill_marked(mark, oldest=0)):
            return
        time.sleep(_POLL_S)


async def sweep(
    mark: str, kin: Iterable[Kin], clock: Clock, timeout_s: float, *, oldest: int = 0
) -> bool:
    """Kills what bears the mark and what is left of `kin`; answers whether nothing of it was left in time.

    Args:
        mark: `NAME=value`, as in `kill_marked`.
        kin: more that shall end.
        clock: for the time.
        timeout_s: how long it may take.
        oldest: the first process that may bear the mark; those with a smaller id are older, and need no look.
    """
    kin = tuple(kin)
    give_up_at = clock.monotonic() + timeout_s
    looks_in_doubt = 0
    while clock.monotonic() < give_up_at:
        killed, in_doubt = _kill_marked(mark, oldest=oldest)
        if not killed + _kill(kin):
            looks_in_doubt += 1
            if not in_doubt or looks_in_doubt == _LOOKS:
                return True
        await clock.sleep(_POLL_S)
    return False


def _kill_marked(mark: str, *, oldest: int) -> tuple[int, int]:
    """How many it killed, and of how many it could not see whether they bear the mark.

    In the middle of its start a process shows no environment for a moment.
    """
    needle = mark.encode() + b"\0"
    killed = in_doubt = 0
    oldest = 0 if _have_ids_begun_anew(oldest) else oldest
    for folder in _PROC.glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid() or pid < oldest:
            continue
        try:
            environment = (folder / "environ").read_bytes()
            if environment.startswith(needle) or b"\0" + needle in environment:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            elif not environment and _is_starting(folder):
                in_doubt += 1
        except OSError:
            # It ended meanwhile, or is another user's.
            continue
    return killed, in_doubt


def _is_starting(folder: Path) -> bool:
    """Whether a process without an environment may get one: it is alive, and not the kernel's own."""
    fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0] not in "ZX" and not int(fields[6]) & _KERNEL_THREAD


def _have_ids_begun_anew(since: int) -> bool:
    """Whether the newest process has a smaller id than that."""
    try:
        return int((_PROC / "loadavg").read_text().split()[-1]) < since
    except OSError:
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
