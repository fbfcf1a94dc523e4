"""Which processes were left behind, and by whom."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetlog.agents.leftovers import Leftovers, owner
from fleetlog.bus.system import SystemClock

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs a /proc")


@contextmanager
def marked(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"], env={**os.environ, "FLEETLOG_WORKER_MARK": mark})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def dead_owner() -> str:
    code = "from fleetlog.agents.leftovers import owner; print(owner())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_what_a_dead_agent_left_is_ended_at_the_second_look() -> None:
    with marked(f"{dead_owner()}.w1") as left:
        leftovers = Leftovers(SystemClock())
        assert leftovers.look() == 0
        assert left.poll() is None
        assert leftovers.look() == 1
        assert left.wait(10) == -9


@pytest.mark.parametrize("what", ["alive", "of another namespace", "of another version", "none"])
def test_what_is_not_known_to_be_left_stays(what: str) -> None:
    _, _, rest = dead_owner().partition("-")
    mark = {
        "alive": f"{owner()}.w1",
        "of another namespace": f"1-{rest}.w1",
        "of another version": "01k8abcdefghjkmnpqrstvwxyz",
        "none": "",
    }[what]
    with marked(mark) as running:
        leftovers = Leftovers(SystemClock())
        leftovers.look()
        leftovers.look()
        assert running.poll() is None
