"""One real fleet for all tests of the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import HANDLERS, CommandLine
from support.mock_clis import mock_claude


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A whole fleet with two workers, for all tests of this folder."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "shown_handlers.py").write_text(HANDLERS)
    cli = CommandLine(folder / "data")
    with (folder / "up.log").open("wb") as log:
        up = cli.start(
            *("up", "--workers", "2", "--app", "shown_handlers:agent"),
            cwd=folder,
            stdout=log,
            stderr=log,
            env=cli.env({"CLAUDE_CLI_PATH": str(mock_claude(folder))}),
        )
    try:
        ready = cli.run("status", "--wait", "60s")
        assert ready.code == 0, f"{ready.err}\n{(folder / 'up.log').read_text()}"
        yield cli
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0


@pytest.fixture
def cli(shared_fleet: CommandLine) -> CommandLine:
    """The command line of the shared fleet."""
    return shared_fleet


@pytest.fixture
def nowhere(tmp_path: Path) -> CommandLine:
    """The command line where no fleet runs."""
    return CommandLine(tmp_path / "nowhere")
