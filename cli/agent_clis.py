"""The options of `agent` and `up` about agent CLIs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fleetlog.agents.executors.profiles import load_profiles, read_credentials

CredentialsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=MODE",
        help="How agent CLIs use a credential: session (the login on this host) or key (from the environment);"
        " may be repeated.",
        show_default="session",
    ),
]
ProfilesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A TOML file with more agent CLIs, or other ways to run the known ones.",
    ),
]


def check_credentials(pairs: Sequence[str] | None) -> tuple[str, ...]:
    """The pairs as they are.

    Raises:
        ConfigError: one is not NAME=session or NAME=key.
    """
    read_credentials(pairs or ())
    return tuple(pairs or ())


def check_profiles(path: Path | None) -> str | None:
    """The file's absolute path.

    Raises:
        ConfigError: it can't be used.
    """
    if path is None:
        return None
    full = str(path.absolute())
    load_profiles(full)
    return full


def agent_cli_options(pairs: Sequence[str] | None, path: Path | None) -> tuple[str, ...]:
    """The same for the command line of an agent.

    Raises:
        ConfigError: one of them can't be used.
    """
    words: list[str] = []
    for pair in check_credentials(pairs):
        words += ["--credential", pair]
    if (full := check_profiles(path)) is not None:
        words += ["--profiles", full]
    return tuple(words)
