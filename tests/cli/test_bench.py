"""`fleetlog bench`, in its short form: every part runs, and every figure has its durability."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.workers import until_gone

from fleetlog.bus.embedded.runtime import read_running
from fleetlog.cli.bench import line_of
from fleetlog.cli.benchmarks.figures import Figure


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleetlog.cli", "bench", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # far more than it takes: a machine under test may be busy
    )


def test_every_part_prints_figures_with_durability_and_ratio() -> None:
    done = bench("append", "tasks", "read", "--events", "2000", "--tasks", "1000", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    whats = [figure["what"] for figure in figures]
    assert sum("whole life" in what for what in whats) == 4
    assert any("pipelined appends" in what for what in whats)
    assert any("into DuckDB" in what for what in whats)
    for figure in figures:
        assert figure["durability"] in ("always", "relaxed")
        assert figure["value"] > 0
        assert figure["ratio"] is not None or "memory" in figure["what"]


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    done = bench("speed")
    assert done.returncode == 2
    assert "append, tasks, read, parallel, barriers, admission, restart, idle" in done.stderr


def test_nothing_is_left_of_one_that_is_ended(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "fleetlog.cli", "bench", "idle"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = None
    while server is None:
        assert running.poll() is None
        time.sleep(0.02)
        server = next(filter(None, map(read_running, tmp_path.glob("*/data"))), None)
    running.terminate()
    assert running.wait(60) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
    asyncio.run(until_gone(server.server_pid))


@pytest.mark.parametrize(
    ("fields", "is_reached"),
    [
        ({"ratio": 0.7, "bar": 0.6}, True),
        ({"ratio": 0.5, "bar": 0.6}, False),
        ({"ratio": 1.4, "bar": 1.5, "is_most": True}, True),
        ({"ratio": 0.1, "bar": 5.0, "is_ratio_judged": False}, True),
        ({"bar": 50.0, "is_ratio_judged": False}, False),
        ({"ratio": 3.0}, None),
    ],
)
def test_a_bar_is_judged_by_ratio_or_value(
    fields: dict[str, float], is_reached: bool | None
) -> None:
    figure = Figure(what="x", durability="always", value=10.0, unit="u", baseline="y", **fields)  # type: ignore[arg-type]
    assert figure.is_reached is is_reached
    words = {True: "reached", False: "NOT REACHED", None: "always"}[is_reached]
    assert words in line_of(figure)
