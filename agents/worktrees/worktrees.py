"""The worktrees of one agent: one for each attempt, made before it runs and saved when it has ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from fleetlog.agents.worktrees.failures import WorktreeFailed
from fleetlog.agents.worktrees.git import Git, GitFailed
from fleetlog.agents.worktrees.making import Maker, Wanted, environment_of, run_setup
from fleetlog.agents.worktrees.reaper import Reaper
from fleetlog.agents.worktrees.records import Tree, TreeRecords
from fleetlog.agents.worktrees.repositories import Repository, RepositoryLocks, look_at
from fleetlog.bus.background import background
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.programs import ProgramRunner, SystemPrograms
from fleetlog.bus.system import Clock
from fleetlog.schemas.events import WorktreeReport

logger = logging.getLogger("fleetlog.agents")


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt that a worktree is for."""

    task_id: str
    """Its task."""
    attempt: int
    """Its number."""
    fence: int
    """Its claim."""
    repo: str | None
    """The repository that the task names."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A worktree to run in."""

    tree: Tree
    """What is known of it."""
    env: dict[str, str]
    """What the attempt's environment has besides."""


class Worktrees:
    """Makes, saves and removes worktrees.

    Args:
        paths: the repositories that tasks may name; the only one is also the default.
        data: the fleet's folder on this machine.
        owner: the agent, one incarnation.
        clock: time.
        environ: the agent's environment.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        *,
        data: Path,
        owner: str,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> None:
        self._paths = paths
        self._owner = owner
        self._environ = environ
        self._programs: ProgramRunner = SystemPrograms()
        self._git = Git(self._programs, clock, environ)
        self._records = TreeRecords(data)
        locks = RepositoryLocks(clock)
        self._maker = Maker(self._git, self._records, locks, clock)
        self._reaper = Reaper(self._git, self._records, locks, clock)
        self._clock = clock
        self._repositories: list[Repository] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Looks at the repositories, and then reaps now and then while the block runs.

        Raises:
            ConfigError: git or a repository is not what it must be.
        """
        self._records.make_folders()
        await self._git.check_version()
        self._repositories = [
            await look_at(self._git, path, self._records.folder) for path in self._paths
        ]
        lock = self._records.owner_lock(self._owner)
        if not await lock.acquire(self._clock):
            raise ConfigError(f"another process is agent {self._owner}")
        try:
            async with background(self._reaper.run()):
                yield
        finally:
            lock.release()

    async def make(self, lease: Lease, on_output: Callable[[str], None]) -> Made:
        """A worktree for an attempt, set up and looked at.

        Cancelling this leaves none behind.

        Args:
            lease: the attempt's.
            on_output: gets what the repository's setup command printed.

        Raises:
            WorktreeFailed: there is none; the message says why.
        """
        wanted = Wanted(
            repository=self._choose(lease.repo),
            task_id=lease.task_id,
            attempt=lease.attempt,
            fence=lease.fence,
            owner=self._owner,
        )
        try:
            tree = await self._maker.reserve(wanted)
        except (GitFailed, ConfigError, OSError) as error:
            raise WorktreeFailed(f"its worktree can't be made: {error}") from error
        try:
            await self._maker.make(tree)
            tree, settings = await self._maker.fill(tree)
            await run_setup(self._programs, tree, settings, self._environ, on_output)
            tree = self._maker.allow_use(tree)
        except WorktreeFailed as error:
            tree = await self._reaper.save(tree, is_kept=True)
            raise WorktreeFailed(
                f"{error}; the worktree is kept in {tree.path}", is_permanent=error.is_permanent
            ) from error
        except (GitFailed, ConfigError, OSError) as error:
            await self._remove(tree)
            raise WorktreeFailed(f"its worktree can't be made: {error}") from error
        except BaseException:
            # Nothing of the attempt has run in it, so there is nothing to save.
            await self._remove(tree)
            raise
        return Made(tree=tree, env=environment_of(tree, settings))

    async def save(self, tree: Tree, *, is_kept: bool) -> tuple[Tree, WorktreeReport]:
        """Saves what the attempt left; to be called when nothing of it runs any more.

        Args:
            tree: what `make` gave.
            is_kept: the folder stays for its keep time, because a person may want to look.
        """
        tree = await self._reaper.save(tree, is_kept=is_kept)
        return tree, _report(tree)

    async def end(self, tree: Tree, *, is_recorded: bool) -> None:
        """Removes what is saved, once the log says where; what is kept stays."""
        if tree.phase != "saved":
            return
        if is_recorded:
            await self._remove(tree)
        else:
            await self._reaper.save(tree, is_kept=True)

    async def _remove(self, tree: Tree) -> None:
        try:
            await self._reaper.remove(tree)
        except GitFailed as error:
            logger.error("worktree %s: %s; `fleetlog worktree reap` tries again", tree.id, error)
            if tree.phase != "making":
                await self._reaper.save(tree, is_kept=True)

    def _choose(self, repo: str | None) -> Repository:
        """The repository of a task.

        Raises:
            WorktreeFailed: this agent may not, or can't know which.
        """
        given = ", ".join(str(each.path) for each in self._repositories)
        if repo is None:
            if len(self._repositories) == 1:
                return self._repositories[0]
            raise WorktreeFailed(
                f"the task names no repository, and its agent has several ({given}): submit it with --repo",
                is_permanent=True,
            )
        found = [each for each in self._repositories if _is_named(each, repo)]
        if len(found) != 1:
            raise WorktreeFailed(
                f"the repository {repo} is {'not' if not found else 'more than'} one of those that its agent"
                f" was given with --worktree ({given})",
                is_permanent=True,
            )
        return found[0]


def _is_named(repository: Repository, repo: str) -> bool:
    if repo.startswith("/"):
        return Path(repo).resolve() == repository.path.resolve()
    return repo == repository.path.name


def _report(tree: Tree) -> WorktreeReport:
    saved = tree.saved
    kept = str(tree.path) if tree.phase == "kept" else None
    if saved is None:
        note = "its work could not be saved: it is in the folder that is kept"
        return WorktreeReport(repository=str(tree.repository), base=tree.base, kept=kept, note=note)
    return WorktreeReport(
        repository=str(tree.repository),
        branch=saved.branch,
        base=tree.base,
        head=saved.head,
        commits=saved.commits,
        files_changed=saved.files_changed,
        insertions=saved.insertions,
        deletions=saved.deletions,
        kept=kept,
        note=saved.note,
    )
