"""The options that say how a command's process starts; `run` and `schedule add` share them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleetlog.bus.submit_options import SubmitOptions
from fleetlog.cli.grouping import Group
from fleetlog.cli.inputs import json_of, pairs_of, repo_of


class CommandProcess(Group, frozen=True, kw_only=True):
    """What a command gets, and where it runs."""

    stdin: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="The payload of the document on a command's stdin; - reads it from here.",
        ),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Added to a command's environment; may be repeated."
        ),
    ] = None
    cwd: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where a command runs, on the agent's host.",
            show_default="the agent's folder",
        ),
    ] = None
    repo: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="The repository to work on, one that its agent was given with --worktree: its path there, or"
            " the name of its folder.",
            show_default="the agent's only one",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What the options say of its process, as the task's arguments have it.

        Raises:
            InvalidInput: the payload is no JSON, or a variable has no `=`.
        """
        arguments: dict[str, Any] = {}
        if self.stdin is not None:
            arguments["stdin"] = json_of(self.stdin, "payload for stdin")
        if self.env:
            arguments["env"] = pairs_of(self.env, "variable")
        if self.cwd is not None:
            arguments["cwd"] = self.cwd
        return arguments

    def with_repo(self, said: SubmitOptions) -> SubmitOptions:
        """The submit options with the repository, if there is one.

        Raises:
            InvalidInput: it is no repository's name.
        """
        return said if self.repo is None else {**said, "repo": repo_of(self.repo)}
