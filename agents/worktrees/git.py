"""Git, run as a program: in an environment of ours, without anybody's hooks, patient with its lock files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.agents.environment import COMMAND_VARIABLES, allowed
from fleetlog.bus.errors import ConfigError, FleetlogError
from fleetlog.bus.programs import ProgramRunner, Ran
from fleetlog.bus.system import Clock

VERSION_MIN: Final = (2, 34)
"""The first one whose `worktree add` locks with a reason."""
QUIET: Final = {
    # Collecting garbage while others work in the same repository is for whoever keeps it.
    "gc.auto": "0",
    "maintenance.auto": "false",
    # A signature asks a person for a passphrase, and this is not that person's work.
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
}
"""Settings for git where nobody sits before it."""
_OURS: Final = QUIET | {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "worktree.useRelativePaths": "false",
}
_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_ANYWHERE: Final = Path("/")


class GitFailed(FleetlogError):
    """Git said no; what the command was to change may be changed in part."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a git command works on. Named outright, because what a task left behind may point anywhere."""

    git_dir: Path
    """The repository's, or one worktree's own part of it."""
    work_tree: Path | None = None
    """The files."""
    index: Path | None = None
    """Another index than the worktree's own."""


class Git:
    """Runs git commands.

    Args:
        programs: what runs them.
        clock: for the pauses when another git has locked a file.
        environ: the agent's environment, of which git sees what an allow-list lets through.
    """

    def __init__(self, programs: ProgramRunner, clock: Clock, environ: Mapping[str, str]) -> None:
        self._programs = programs
        self._clock = clock
        self._environ = {
            **allowed(environ, COMMAND_VARIABLES),
            **configured(_OURS),
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }

    async def run(
        self,
        *args: str,
        at: Place | None = None,
        cwd: Path = _ANYWHERE,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """What the command prints, without the last line end.

        Raises:
            GitFailed: its exit code is not 0.
        """
        for pause_s in (*_PAUSES_S, None):
            ran = await self.attempt(*args, at=at, cwd=cwd, env=env)
            if ran.code == 0:
                return ran.out.decode(errors="surrogateescape").removesuffix("\n")
            said = ran.err.decode(errors="replace").strip()
            if pause_s is None or not _is_locked(said):
                break
            await self._clock.sleep(pause_s)
        raise GitFailed(f"git {args[0]}: {said[-2000:] or f'exit code {ran.code}'}")

    async def find(self, *args: str, at: Place | None = None, cwd: Path = _ANYWHERE) -> str | None:
        """Like `run`, for a question that may have no answer: None then."""
        ran = await self.attempt(*args, at=at, cwd=cwd)
        if ran.code != 0:
            return None
        return ran.out.decode(errors="surrogateescape").removesuffix("\n")

    async def attempt(
        self,
        *args: str,
        at: Place | None = None,
        cwd: Path = _ANYWHERE,
        env: Mapping[str, str] | None = None,
    ) -> Ran:
        """Runs the command once.

        Raises:
            GitFailed: it cannot be started.
        """
        environ = {**self._environ, **(_variables(at) if at else {}), **(env or {})}
        try:
            return await self._programs.run(("git", *args), env=environ, cwd=cwd)
        except OSError as error:
            raise GitFailed(f"git {args[0]} cannot be started: {error}") from error

    async def check_version(self) -> None:
        """Makes sure that git is there and new enough.

        Raises:
            ConfigError: it is not.
        """
        wanted = ".".join(map(str, VERSION_MIN))
        try:
            said = await self.run("--version")
        except GitFailed as error:
            raise ConfigError(f"worktrees need git {wanted} or newer on PATH: {error}") from error
        found = re.search(r"(\d+)\.(\d+)", said)
        if found is None or (int(found[1]), int(found[2])) < VERSION_MIN:
            raise ConfigError(f"worktrees need git {wanted} or newer, and this is {said}")


def identity(name: str, email: str) -> dict[str, str]:
    """The variables by which commits get an author without anything written into a repository."""
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


def configured(settings: Mapping[str, str]) -> dict[str, str]:
    """The variables that give git these settings, over those of its files."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _variables(at: Place) -> dict[str, str]:
    variables = {"GIT_DIR": str(at.git_dir)}
    if at.work_tree is not None:
        variables["GIT_WORK_TREE"] = str(at.work_tree)
    if at.index is not None:
        variables["GIT_INDEX_FILE"] = str(at.index)
    return variables


def _is_locked(said: str) -> bool:
    return ".lock': File exists" in said or "could not lock config file" in said
