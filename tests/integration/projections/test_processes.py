"""Projectors as processes: one at a time, killed at any moment, and quiet when they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetlog.bus.errors import ProjectionError
from fleetlog.projections.store import create_store, open_store
from tests.integration.projections.projecting import history
from tests.unit.projections.histories import FLEET

ROOT = Path(__file__).parents[3]
TASKS = 2_000


@contextmanager
def projecting(folder: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    module = "tests.integration.projections.projecting"
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(folder), str(TASKS), mode],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_projector_is_told_of_the_first(tmp_path: Path) -> None:
    with projecting(tmp_path, "follow") as process:
        assert line(process) == "open"
        with pytest.raises(ProjectionError, match="another process has"):
            open_store(tmp_path / "projection.duckdb", FLEET)
    assert (tmp_path / "projection.duckdb").exists()
    open_store(tmp_path / "projection.duckdb", FLEET).close()


def test_it_ends_without_a_word_on_stderr(tmp_path: Path) -> None:
    with projecting(tmp_path, "stop") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split(), err) == (0, ["open", "done"], "")


def test_kill_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    checkpoints = []
    for delay_s in (0.0, 0.1, 0.35, 0.6):
        with projecting(tmp_path, "follow") as process:
            assert line(process) == "open"
            time.sleep(delay_s)  # any moment will do
            process.send_signal(signal.SIGKILL)
            process.wait()
        store = open_store(tmp_path / "projection.duckdb", FLEET)
        checkpoints.append(store.checkpoint.seq)
        assert store.digests()["events"].rows == store.checkpoint.seq
        store.close()
    assert checkpoints == sorted(checkpoints)
    with projecting(tmp_path, "stop") as process:
        process.communicate(timeout=60)
    store = open_store(tmp_path / "projection.duckdb", FLEET)
    right = create_store(tmp_path / "right.duckdb", FLEET)
    right.apply(history(TASKS).messages)
    assert store.digests() == right.digests()
    store.close()
    right.close()
