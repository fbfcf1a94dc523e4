"""The mock of the Claude CLI as an agent finds it, and a fleet whose agent runs it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec

from fleetlog.schemas.specs import Backoff, TaskSpec
from support.measuring import measured_at_first

ROOT = Path(__file__).resolve().parents[2]
MOCK = ROOT / "examples" / "mock_claude.py"
BUILT_IN = ROOT / "agents" / "executors" / "profiles.toml"


def executable(path: Path, text: str) -> Path:
    """A program."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def mock_claude(folder: Path) -> Path:
    """The mock, run by this very Python whatever PATH holds."""
    return executable(folder / "claude", f'#!/bin/sh\nexec "{sys.executable}" -SE "{MOCK}" "$@"\n')


def quick_profiles(folder: Path, **times: float) -> str:
    """A file with the built-in profile `claude`, with other times."""
    section = BUILT_IN.read_text().partition("[codex]")[0]
    lines = "".join(f"{name} = {float(value)}\n" for name, value in times.items())
    path = folder / "profiles.toml"
    path.write_text(section.replace("[claude]\n", f"[claude]\n{lines}", 1))
    return str(path)


def agent_environment(folder: Path, **more: str) -> dict[str, str]:
    """What an agent's environment is that has the mock installed."""
    tests = str(ROOT / "tests")
    plain = {name: text for name, text in os.environ.items() if not name.startswith("ANTHROPIC_")}
    home = {"HOME": str(folder), "CLAUDE_CLI_PATH": str(mock_claude(folder))}
    return measured_at_first({**plain, "PYTHONPATH": tests, **home, **more}, "worker of a CLI")


def claude(prompt: str = "hello", **args: Any) -> TaskSpec:
    """A task for it; failed attempts are tried again at once."""
    fields = {"prompt": prompt, **args}
    return TaskSpec(
        executor="claude",
        handler="claude",
        args=msgspec.Raw(msgspec.json.encode(fields)),
        backoff=Backoff(first_ms=1, max_ms=1),
    )


def scenario(name: str, text: str = "", **args: Any) -> TaskSpec:
    """A task in which the mock plays this."""
    return claude(f"[mock:{name}] {text}".strip(), **args)
