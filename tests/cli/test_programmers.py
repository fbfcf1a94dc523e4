"""The example of a manager with ten programmers, with a stand-in for the Claude CLI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.command_line import CommandLine
from support.mock_clis import mock_claude

ROOT = Path(__file__).resolve().parents[2]


def test_a_manager_gives_the_parts_of_a_goal_to_ten_programmers(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path / "data")
    claude = str(mock_claude(tmp_path))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = cli.env({"CLAUDE_CLI_PATH": claude, "PATH": path})
    with (tmp_path / "up.log").open("wb") as log:
        up = cli.start(
            *("up", "--app", "examples.programmers:agent", "--workers", "10"),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=environ,
        )
    try:
        assert cli.run("status", "--wait", "60s").code == 0
        done = subprocess.run(
            [sys.executable, "examples/programmers.py", "[mock:split] Build me a web shop."],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0
    said, _, table = done.stdout.partition("\n")
    assert said == "10 of 10 parts are done"
    names, values = (line.split() for line in table.splitlines())
    row = dict(zip(names, values, strict=True))
    assert row["programmers"] == "10"
    # Ten seconds of work one after the other; at once they take far less, however busy the machine.
    assert float(row["speed_up"]) > 3
