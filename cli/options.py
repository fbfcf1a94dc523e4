"""Single options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput

WorktreeOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="REPO",
        help="A git repository: each attempt of a command gets a worktree of it; may be repeated.",
    ),
]
UncheckedOption = Annotated[
    bool,
    typer.Option(
        "--unchecked",
        help="Do not compare handler and arguments with what agents take, nor ask for limits and budgets.",
    ),
]
WaitOption = Annotated[
    bool,
    typer.Option("--wait", help="Wait for the outcome; exit code 1 unless it completed."),
]
WaitTimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION", help="Wait no longer; exit code 4 then, and the task goes on."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON object or array on stdout, nothing else there."),
]


def absolute_paths(paths: Sequence[Path] | None) -> tuple[Path, ...]:
    """Paths as they are seen from here."""
    return tuple(path.expanduser().absolute() for path in paths or ())


def seconds_to_wait(wait_timeout: str | None, *, is_waiting: bool) -> float | None:
    """What `--wait-timeout` says, in seconds.

    Raises:
        InvalidInput: it is no duration, or nobody waits.
    """
    if wait_timeout is None:
        return None
    if not is_waiting:
        raise InvalidInput("--wait-timeout goes with --wait: give both, or neither")
    return parse_duration(wait_timeout, "wait timeout") / 1000
