"""What a process and its children use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetlog.agents import footprint as module
from fleetlog.agents.footprint import footprint_of

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="needs /proc to find it"
)

HELD_BYTES = 80 * 2**20
CHILD = f"held = b'x' * {HELD_BYTES}; print('holds', flush=True); input()"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=0, start_new_session=True)
child.wait()
"""
BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True); input()"


@pytest.fixture
def start() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.communicate(b"\n")


def run(started: list[subprocess.Popen[bytes]], code: str) -> int:
    """Starts it, and returns when it has said a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    started.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


def test_memory_of_a_child_counts_though_it_left_its_group(
    start: list[subprocess.Popen[bytes]],
) -> None:
    used = footprint_of(run(start, PARENT))
    assert used is not None
    assert HELD_BYTES < used.rss_bytes < 3 * HELD_BYTES


def test_processor_time_counts(start: list[subprocess.Popen[bytes]]) -> None:
    used = footprint_of(run(start, BUSY))
    assert used is not None
    assert 0.4 < used.cpu_s < 5.0


def test_of_a_process_that_has_ended_nothing_is_known() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert footprint_of(ended.pid) is None


def test_without_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_PROC", tmp_path)
    assert footprint_of(1) is None
