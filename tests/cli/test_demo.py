"""The demo, the README's example and its commands, as a newcomer runs them: real processes, from the root."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.measuring import unmeasured

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DEMO = [sys.executable, str(ROOT / "examples" / "demo.py")]
TIMEOUT_S = 240
"""Far more than it takes: a machine under test may be busy."""


def environ_in(tmp_path: Path, **changes: str) -> dict[str, str]:
    """What a person's shell has after `source .venv/bin/activate`, with the temporary folder in `tmp_path`."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return unmeasured({**os.environ, "TMPDIR": str(tmp_path), "PATH": path} | changes)


def left_behind(tmp_path: Path) -> list[Any]:
    """Files in the temporary folder, and processes that know it."""
    found: list[Any] = list(tmp_path.glob("fleetlog-*"))
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        told = [
            *(process.info["cmdline"] or ()),
            (process.info["environ"] or {}).get("FLEETLOG_DATA", ""),
        ]
        if any(str(tmp_path) in word for word in told):
            found.append(told)
    return found


@contextmanager
def fleet_up(tmp_path: Path, app: str, cwd: Path) -> Iterator[dict[str, str]]:
    """A fleet by `fleetlog up`; gives the environment in which commands find it. Stops it in order."""
    environ = environ_in(tmp_path, FLEETLOG_DATA=str(tmp_path / "data"))
    with (tmp_path / "up.log").open("wb") as stderr:
        up = subprocess.Popen(
            [BIN / "fleetlog", "up", "--app", app, "--workers", "1"],
            cwd=cwd,
            env=environ,
            stderr=stderr,
        )
    try:
        run_in(environ, cwd, "fleetlog", "status", "--wait", "30s")
        yield environ
    finally:
        up.terminate()
        code = up.wait(TIMEOUT_S)
    assert code == 0, (tmp_path / "up.log").read_text()


def run_in(environ: dict[str, str], cwd: Path, *argv: str, expected: int = 0) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == expected, f"{shlex.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_demo_does_real_work_and_leaves_nothing(tmp_path: Path) -> None:
    said = run_in(environ_in(tmp_path), tmp_path, *DEMO)
    for expected in (
        r"^\$ fleetlog run --wait -- df -h$",
        r"^(\d+) files: \1 new tasks, 0 known already$",
        r"^(\d+) files: 0 new tasks, \1 known already$",
        r"^opened at knock 3$",
        r"^cube: \d+ % free\nclifford: .+\nzerg: FileNotFoundError: .*no/such/folder",
        r"^task \w+ failed after 2 attempts \(error\)",
        r"^measure +(\d+) +\1 +0 +1\.0$",
        r"^3 +completed ",
        r"^All as it should be",
    ):
        assert re.search(expected, said, re.MULTILINE), f"{expected}\n{said}"
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGINT)])
def test_demo_stopped_half_way_leaves_nothing(tmp_path: Path, signals: tuple[int, ...]) -> None:
    with subprocess.Popen(
        DEMO, env=environ_in(tmp_path), stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("$ fleetlog submit knock"):
                break
        for number in signals:
            demo.send_signal(number)
        assert "stopped; nothing is left behind" in demo.stdout.read()
    assert demo.returncode == 130
    assert left_behind(tmp_path) == []


def test_demo_that_finds_something_wrong_fails_and_leaves_nothing(tmp_path: Path) -> None:
    said = run_in(environ_in(tmp_path, PATH=str(tmp_path)), tmp_path, *DEMO, expected=1)
    assert "The demo failed: `run` ended with 1" in said
    assert left_behind(tmp_path) == []


def test_the_readmes_example_runs_and_again_is_the_same_task(tmp_path: Path) -> None:
    source, *_ = blocks("README.md", "python")
    (tmp_path / "hello.py").write_text(source)
    with fleet_up(tmp_path, "hello:agent", tmp_path) as environ:
        assert run_in(environ, tmp_path, "python", "hello.py") == "5\n"
        assert run_in(environ, tmp_path, "python", "hello.py") == "5\n"
        query = "SELECT state, attempts FROM tasks"
        rows = run_in(environ, tmp_path, "fleetlog", "sql", "--fresh", "--json", query)
        assert json.loads(rows) == [{"state": "completed", "attempts": 1}]


def test_the_readmes_fan_out_runs(tmp_path: Path) -> None:
    _, source, _ = blocks("README.md", "python")
    (tmp_path / "disks.py").write_text(source)
    [commands] = [block for block in blocks("README.md", "sh") if "disks:agent" in block]
    _, *lines = commands.splitlines()
    with fleet_up(tmp_path, "disks:agent", tmp_path) as environ:
        submitted, mapped, listed = (run_in(environ, tmp_path, "sh", "-c", line) for line in lines)
    for said in (submitted, mapped):
        assert re.fullmatch(r"/: \d+ GiB free\n/tmp: \d+ GiB free\n", said)
    assert listed.count("released") == 2


def test_the_readmes_question_is_asked_and_answered(tmp_path: Path) -> None:
    _, _, source = blocks("README.md", "python")
    (tmp_path / "releases.py").write_text(source)
    with fleet_up(tmp_path, "releases:agent", tmp_path) as environ:
        task_id = run_in(environ, tmp_path, "fleetlog", "submit", "release").strip()
        while task_id not in run_in(environ, tmp_path, "fleetlog", "task", "list", "--needs-input"):
            pass
        run_in(environ, tmp_path, "fleetlog", "task", "answer", task_id, "main")
        again = ("fleetlog", "task", "show", task_id, "--json")
        while (shown := json.loads(run_in(environ, tmp_path, *again)))["state"] != "completed":
            pass
    assert shown["result"] == "released main"


def test_the_commands_of_the_documents_run_as_they_stand(tmp_path: Path) -> None:
    up = "fleetlog up --app examples.demo_app:agent\n"
    lines = []
    for name in ("README.md", "examples/README.md"):
        found = blocks(name, "sh")
        lines += found[found.index(up) + 1].splitlines()
    for block in blocks("README.md", "sh"):
        if block.startswith(("fleetlog limit set", "fleetlog schedule add")):
            lines += block.splitlines()
    assert len(lines) > 15
    with fleet_up(tmp_path, "examples.demo_app:agent", ROOT) as environ:
        for line in lines:
            run_in(environ, ROOT, *shlex.split(line))


def test_a_command_with_a_wrong_folder_is_never_tried_again(tmp_path: Path) -> None:
    script = ROOT / "examples" / "folder_size.sh"
    (tmp_path / "some").mkdir()
    with fleet_up(tmp_path, "examples.demo_app:agent", ROOT) as environ:
        run = (
            "fleetlog",
            "run",
            "--wait",
            "--json",
            "--cwd",
            str(tmp_path),
            "--",
            "sh",
            str(script),
        )
        good = json.loads(run_in(environ, ROOT, *run, "some"))
        assert good["result"].keys() == {"some"}
        bad = json.loads(run_in(environ, ROOT, *run, "some", "other", expected=1))
        assert (bad["state"], bad["attempts"]) == ("failed", 1)
        assert "other is no folder" in bad["error"]
