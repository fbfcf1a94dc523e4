"""Help: every command teaches itself."""

from __future__ import annotations

import pytest
from support.command_line import CommandLine

from fleetlog.cli.lazy import load
from fleetlog.cli.main import SECTIONS

COMMANDS = [name for commands in SECTIONS.values() for name in commands]
INNER = [
    ("task", "list"),
    ("task", "show"),
    ("task", "output"),
    ("task", "artifact"),
    ("task", "cancel"),
    ("agent", "list"),
    ("agent", "drain"),
    ("dead", "list"),
    ("dead", "revive"),
    ("barrier", "list"),
    ("barrier", "show"),
    ("queue", "list"),
    ("queue", "pause"),
    ("queue", "resume"),
    ("schedule", "add"),
    ("schedule", "list"),
    ("schedule", "remove"),
    ("schedule", "pause"),
    ("schedule", "resume"),
    ("worktree", "list"),
    ("worktree", "reap"),
    ("log", "tail"),
]


@pytest.mark.parametrize("words", [*((name,) for name in COMMANDS), *INNER], ids=" ".join)
def test_help_has_a_summary_and_an_example(nowhere: CommandLine, words: tuple[str, ...]) -> None:
    ran = nowhere(*words, "--help")
    assert f"fleetlog {' '.join(words)}" in ran.out
    summary = ran.out.splitlines()[2]
    assert summary.startswith("  ")
    assert summary.strip()
    assert "Example" in ran.out
    assert f"fleetlog {' '.join(words)}" in ran.out.partition("Example")[2].replace(
        "fleetlog --url nats://hub:4222 ", "fleetlog "
    )


@pytest.mark.parametrize(
    ("name", "place", "summary"),
    [(name, *entry) for commands in SECTIONS.values() for name, entry in commands.items()],
    ids=COMMANDS,
)
def test_list_of_commands_says_what_their_help_says(name: str, place: str, summary: str) -> None:
    help_text = load(name, place, has_shared_flags=True).help or ""
    assert help_text.startswith(summary.rstrip(".").split(",")[0])


def test_root_help_lists_every_command_without_loading_one(nowhere: CommandLine) -> None:
    ran = nowhere("--help")
    assert all(f"\n  {name} " in ran.out for name in COMMANDS)
    loaded = nowhere.run("--help", env={"PYTHONPROFILEIMPORTTIME": "1"}).err
    names = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert "typer" in names
    assert not names & {"nats", "duckdb", "rich", "uvloop", "asyncio"}


def test_no_arguments_show_the_help(nowhere: CommandLine) -> None:
    ran = nowhere.run()
    assert ran.code == 2
    assert "Usage: fleetlog" in ran.out + ran.err


def test_version(nowhere: CommandLine) -> None:
    assert nowhere("--version").out.startswith("fleetlog ")


@pytest.mark.parametrize("words", [("up",), ("agent",), ("submit", "add")])
def test_unknown_option_is_usage(nowhere: CommandLine, words: tuple[str, ...]) -> None:
    ran = nowhere.run(*words, "--sideways")
    assert ran.code == 2
    assert "--sideways" in ran.err
    assert "--help" in ran.err


def test_near_command_is_named(nowhere: CommandLine) -> None:
    ran = nowhere.run("sumbit")
    assert ran.code == 2
    assert "Did you mean 'submit'" in ran.err


def test_up_takes_the_data_folder_before_its_name_but_no_address(nowhere: CommandLine) -> None:
    ran = nowhere.run("--url", "nats://127.0.0.1:1", "up")
    assert ran.code == 2
    assert "a server of its own" in ran.err
    ran = nowhere.run("--data", str(nowhere.data), "up", "--ephemeral")
    assert ran.code == 2
    assert "leave out --data" in ran.err
