"""The options of `agent` and `up` about agent CLIs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetlog.agents.executors.profiles import load_profiles, read_credentials
from fleetlog.cli.grouping import Group


class AgentClis(Group, frozen=True, kw_only=True):
    """With whose login agent CLIs run, and which there are."""

    credential: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODE",
            help="How agent CLIs use a credential: session (the login on this host) or key (from the"
            " environment); may be repeated.",
            show_default="session",
        ),
    ] = None
    profiles: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file with more agent CLIs, or other ways to run the known ones.",
        ),
    ] = None

    def checked_credentials(self) -> tuple[str, ...]:
        """The pairs as they are.

        Raises:
            ConfigError: one is not NAME=session or NAME=key.
        """
        read_credentials(self.credential or ())
        return tuple(self.credential or ())

    def checked_profiles(self) -> str | None:
        """The file's absolute path.

        Raises:
            ConfigError: it can't be used.
        """
        if self.profiles is None:
            return None
        full = str(self.profiles.absolute())
        load_profiles(full)
        return full

    def words(self) -> tuple[str, ...]:
        """The same for the command line of an agent.

        Raises:
            ConfigError: one of them can't be used.
        """
        words: list[str] = []
        for pair in self.checked_credentials():
            words += ["--credential", pair]
        if (full := self.checked_profiles()) is not None:
            words += ["--profiles", full]
        return tuple(words)
