"""A new worktree: reserved, made, filled, and looked at before anything runs in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from fleetlog.agents.environment import COMMAND_VARIABLES, allowed
from fleetlog.agents.worktrees.copying import copy_files
from fleetlog.agents.worktrees.failures import WorktreeFailed
from fleetlog.agents.worktrees.git import QUIET, Git, GitFailed, Place, configured, identity
from fleetlog.agents.worktrees.records import Tree, TreeRecords
from fleetlog.agents.worktrees.repositories import PREFIX, Repository, RepositoryLocks, base_of
from fleetlog.agents.worktrees.saving import tip_of
from fleetlog.agents.worktrees.settings import TreeSettings, read_settings
from fleetlog.bus.programs import ProgramRunner, Ran
from fleetlog.bus.system import Clock

MARK: Final = "FLEETLOG_WORKTREE"
"""The variable that all processes of an attempt in a worktree have; what is left of them is found by it."""
_NUMBERS_MAX: Final = 100
T = TypeVar("T")
_SAID_BYTES_MAX: Final = 32 * 1024


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A worktree for one attempt."""

    repository: Repository
    """Of which repository."""
    task_id: str
    """Whose attempt."""
    attempt: int
    """Which."""
    fence: int
    """Its lease."""
    owner: str
    """The agent."""


class Maker:
    """Makes worktrees.

    Args:
        git: runs git.
        records: where they are written down, and the folder they are made in.
        locks: for what concerns a repository as a whole.
        clock: for the time it is made.
    """

    def __init__(
        self, git: Git, records: TreeRecords, locks: RepositoryLocks, clock: Clock
    ) -> None:
        self._git = git
        self._records = records
        self._locks = locks
        self._clock = clock

    async def reserve(self, wanted: Wanted) -> Tree:
        """Chooses base, folder and branch, and writes down what is about to be made.

        Raises:
            GitFailed: there is nothing to begin from, or no name is left.
        """
        base = await base_of(self._git, wanted.repository)
        for number in range(1, _NUMBERS_MAX):
            tree = self._tree(wanted, base, "" if number == 1 else f"-{number}")
            if await tip_of(self._git, tree, tree.branch) is None and self._records.add(tree):
                return tree
        raise GitFailed(
            f"{wanted.repository.path} has too many branches of attempt {wanted.attempt} of {wanted.task_id}:"
            " remove some"
        )

    async def make(self, tree: Tree) -> None:
        """Makes folder and branch, locked; the folder has no files yet.

        Raises:
            GitFailed: it can't be made; the branch may be there.
        """
        async with self._locks.held(tree.common_dir):
            await self._git.run(
                *("worktree", "add", "--quiet", "--no-track", "--no-checkout"),
                *("--lock", "--reason", _reason(tree)),
                *("-b", tree.branch, str(tree.path), tree.base),
                at=Place(git_dir=tree.common_dir),
            )

    async def fill(self, tree: Tree) -> tuple[Tree, TreeSettings]:
        """Puts the files into it, and those that git does not know, and looks whether all is as it must be.

        Raises:
            GitFailed: git can't write the files.
            WorktreeFailed: the settings are wrong, or it is not what it must be.
        """
        # Outside of the lock: it takes long in a large repository, and only this worktree is written.
        await self._git.run("reset", "--quiet", "--hard", cwd=tree.path)
        await self._verify(tree)
        settings = read_settings(tree.path, tree.repository)
        copied = await _finished(
            asyncio.to_thread(copy_files, settings.copy, tree.repository, tree.path)
        )
        return msgspec.structs.replace(tree, copied=copied, keep_ms=settings.keep_ms), settings

    def allow_use(self, tree: Tree) -> Tree:
        """Writes down that from now on there is work in it."""
        tree = msgspec.structs.replace(tree, phase="used")
        self._records.write(tree)
        return tree

    def _tree(self, wanted: Wanted, base: str, suffix: str) -> Tree:
        name = f"{wanted.attempt}{suffix}"
        tree_id = f"{wanted.task_id}.{name}"
        return Tree(
            id=tree_id,
            owner=wanted.owner,
            pid=os.getpid(),
            task_id=wanted.task_id,
            attempt=wanted.attempt,
            fence=wanted.fence,
            repository=wanted.repository.path,
            common_dir=wanted.repository.common_dir,
            path=self._records.trees / tree_id,
            branch=f"{PREFIX}/{wanted.task_id}/{name}",
            base=base,
            made_at=self._clock.now(),
            keep_ms=TreeSettings().keep_ms,
        )

    async def _verify(self, tree: Tree) -> None:
        top = await self._git.run("rev-parse", "--show-toplevel", cwd=tree.path)
        common = await self._git.run(
            "rev-parse", "--path-format=absolute", "--git-common-dir", cwd=tree.path
        )
        branch = await self._git.find("symbolic-ref", "-q", "--short", "HEAD", cwd=tree.path)
        head = await self._git.find("rev-parse", "-q", "--verify", "HEAD", cwd=tree.path)
        is_right = _is_same(top, tree.path) and _is_same(common, tree.common_dir)
        if not is_right or (branch, head) != (tree.branch, tree.base):
            raise WorktreeFailed(
                f"the worktree {tree.path} is not what it must be:"
                f" it is {branch} at {head} in {top} of {common}"
            )


async def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Waits for a thread to the end even when it is cancelled, so that it does not write into what goes."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        raise


def _is_same(said: str, path: Path) -> bool:
    return Path(said).resolve() == path.resolve()


def environment_of(tree: Tree, settings: TreeSettings) -> dict[str, str]:
    """What the environment of an attempt in a worktree has besides: who commits, and how git is to behave."""
    name = settings.name or f"fleetlog agent {tree.task_id}"
    email = settings.email or f"{tree.task_id}@fleetlog.invalid"
    return {
        **identity(name, email),
        **configured(QUIET),
        "GIT_TERMINAL_PROMPT": "0",
        # If the worktree's own .git goes, git must not take a repository further up for it.
        "GIT_CEILING_DIRECTORIES": str(tree.path.parent),
        MARK: str(tree.path),
    }


async def run_setup(
    programs: ProgramRunner,
    tree: Tree,
    settings: TreeSettings,
    environ: Mapping[str, str],
    on_output: Callable[[str], None],
) -> None:
    """Runs the repository's setup command in its new worktree.

    Args:
        programs: what runs it.
        tree: the worktree.
        settings: has the command.
        environ: the agent's environment, of which it sees what commands see.
        on_output: gets what it printed, when it has ended.

    Raises:
        WorktreeFailed: it failed or took too long; nothing of its group runs any more.
    """
    if settings.setup is None:
        return
    mine = {
        "FLEETLOG_TASK_ID": tree.task_id,
        "FLEETLOG_ATTEMPT": str(tree.attempt),
        "FLEETLOG_WORKDIR": str(tree.path),
    }
    env = {**allowed(environ, COMMAND_VARIABLES), **environment_of(tree, settings), **mine}
    try:
        async with asyncio.timeout(settings.setup_timeout_s):
            ran = await programs.run(("sh", "-c", settings.setup), env=env, cwd=tree.path)
    except TimeoutError:
        raise WorktreeFailed(f"setup took longer than {settings.setup_timeout}") from None
    except OSError as error:
        raise WorktreeFailed(f"setup can't be started: {error}") from error
    said = _said(ran)
    if said:
        on_output(said)
    if ran.code != 0:
        raise WorktreeFailed(f"setup ended with exit code {ran.code}: {said[-500:].strip()}")


def _said(ran: Ran) -> str:
    return (ran.out + ran.err)[-_SAID_BYTES_MAX:].decode(errors="replace")


def _reason(tree: Tree) -> str:
    return (
        f"fleetlog: lease {tree.fence}, task {tree.task_id}, attempt {tree.attempt},"
        f" agent {tree.owner} (process {tree.pid})"
    )
