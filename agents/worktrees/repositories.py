"""The repositories that an agent was given, and the one thing at a time that is done to each."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.agents.worktrees.git import Git, GitFailed, Place
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import Clock

BRANCHES: Final = "refs/heads/"
PREFIX: Final = "fleetlog"
"""The first part of the names of all our branches."""
_POLL_S: Final = 0.01
_PATIENCE_S: Final = 60.0


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository with a checkout, which is only looked at."""

    path: Path
    """The checkout's top folder."""
    git_dir: Path
    """The checkout's own part: its HEAD."""
    common_dir: Path
    """What all worktrees share: objects, branches, settings."""
    branch: str
    """What HEAD named when the agent started, such as `refs/heads/main`."""


async def look_at(git: Git, path: Path, data: Path) -> Repository:
    """Finds out about a repository without changing anything in it.

    Args:
        git: runs git.
        path: the checkout, or a folder in it.
        data: the fleet's folder, where the worktrees will be.

    Raises:
        ConfigError: worktrees can't be made of it; the message says why.
    """
    _check_folder(path)
    try:
        said = await git.run(
            *("rev-parse", "--path-format=absolute", "--is-bare-repository"),
            *("--git-dir", "--git-common-dir"),
            cwd=path,
        )
        is_bare, git_dir, common_dir = said.split("\n")
    except (GitFailed, ValueError) as error:
        raise ConfigError(f"--worktree {path} is no git repository ({error})") from error
    if is_bare == "true":
        raise ConfigError(
            f"--worktree {path} is a bare repository: give a clone of it that has files"
        )
    top = await git.find("rev-parse", "--show-toplevel", cwd=path)
    if top is None:
        raise ConfigError(f"--worktree {path} is inside of .git: give the folder above it")
    _check_apart(data, Path(top))
    at = Place(git_dir=Path(git_dir))
    branch = await git.find("symbolic-ref", "-q", "HEAD", at=at)
    if branch is None:
        raise ConfigError(
            f"the repository {top} has no branch checked out, so it is not clear what to begin from:"
            " switch to a branch in it"
        )
    await _check_content(git, at, top)
    return Repository(
        path=Path(top), git_dir=Path(git_dir), common_dir=Path(common_dir), branch=branch
    )


def _check_folder(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"--worktree {path!r}: its name is not UTF-8, give it another") from None
    if not path.is_dir():
        raise ConfigError(f"--worktree {path}: there is no such folder on this host")


def _check_apart(data: Path, top: Path) -> None:
    if data.is_relative_to(top.resolve()):
        raise ConfigError(
            f"the data folder {data} is inside of the repository {top}: name another one with --data"
        )


async def base_of(git: Git, repository: Repository) -> str:
    """The commit that an attempt begins from: the one that the checkout's branch has now.

    While the checkout has no branch (a person's rebase, say), that of the branch it had before counts.

    Raises:
        GitFailed: there is none.
    """
    at = Place(git_dir=repository.git_dir)
    branch = await git.find("symbolic-ref", "-q", "HEAD", at=at) or repository.branch
    return await git.run("rev-parse", "--verify", f"{branch}^{{commit}}", at=at)


class RepositoryLocks:
    """One change at a time of a repository's list of worktrees, among all agents on this machine.

    The lock is on the repository's own folder, so that it holds between agents of different fleets too; nothing
    is written for it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ours: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def held(self, common_dir: Path) -> AsyncIterator[None]:
        """Holds the lock while the block runs.

        Raises:
            GitFailed: the repository is not there, or another process keeps the lock.
        """
        async with self._ours[common_dir]:
            try:
                descriptor = os.open(common_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise GitFailed(f"the repository {common_dir}: {error.strerror}") from error
            try:
                await self._lock(descriptor, common_dir)
                yield
            finally:
                os.close(descriptor)

    async def _lock(self, descriptor: int, common_dir: Path) -> None:
        give_up_at = self._clock.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._clock.monotonic() > give_up_at:
                    raise GitFailed(f"{common_dir} has been locked for too long") from None
                await self._clock.sleep(_POLL_S)
            else:
                return


async def _check_content(git: Git, at: Place, top: str) -> None:
    if await git.find("rev-parse", "-q", "--verify", "HEAD^{commit}", at=at) is None:
        raise ConfigError(f"the repository {top} has no commit yet: make one")
    if await git.find("cat-file", "-e", "HEAD:.gitmodules", at=at) is not None:
        raise ConfigError(f"the repository {top} has submodules, and worktrees do not fill them")
    attributes = (".gitattributes", "*/.gitattributes")
    if await git.find("grep", "-q", "filter=lfs", "HEAD", "--", *attributes, at=at) is not None:
        raise ConfigError(
            f"the repository {top} keeps files in Git LFS, which worktrees do not fetch"
        )
    if await git.find("show-ref", "-q", "--verify", BRANCHES + PREFIX, at=at) is not None:
        raise ConfigError(
            f"the repository {top} has a branch {PREFIX!r}, so there can be none named {PREFIX}/…:"
            " give it another name"
        )
