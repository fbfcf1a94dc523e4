"""What a worker and all that it started use of the machine. Only where there is a `/proc`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

PROCESSES_MAX: Final = 1_000
"""Of more below one worker, the rest is not counted: a beat must not take long."""
_PROC: Final = Path("/proc")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Footprint(msgspec.Struct, frozen=True):
    """Of a process and those below it."""

    rss_bytes: int
    """Memory in use; what they share counts for each."""
    cpu_s: float
    """Processor time so far, of ended ones too if their parent has collected them."""


def footprint_of(pid: int) -> Footprint | None:
    """What the process and those below it use now; None if it has ended, or there is no `/proc`."""
    rss_bytes, cpu_s, is_there = 0, 0.0, False
    for each in _tree(pid):
        try:
            fields = (_PROC / str(each) / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        # Counted from the third field, the state. Source: proc_pid_stat(5)
        cpu_s += sum(map(int, fields[11:15])) / _TICKS
        rss_bytes += int(fields[21]) * _PAGE_BYTES
        is_there = True
    return Footprint(rss_bytes, round(cpu_s, 2)) if is_there else None


def _tree(pid: int) -> Iterator[int]:
    # By each thread's own list of children: a look at every process of the machine would cost far more.
    waiting = [pid]
    for _ in range(PROCESSES_MAX):
        if not waiting:
            return
        each = waiting.pop()
        yield each
        waiting += _children(each)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_bytes().split())
    except OSError:
        pass
    return found
