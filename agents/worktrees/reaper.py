"""What is left of worktrees: the work of dead agents is rescued, and what was kept long enough goes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleetlog.agents.groups import sweep
from fleetlog.agents.worktrees.git import Git, GitFailed
from fleetlog.agents.worktrees.making import MARK
from fleetlog.agents.worktrees.records import Saved, Tree, TreeRecords
from fleetlog.agents.worktrees.removing import remove
from fleetlog.agents.worktrees.repositories import BRANCHES, RepositoryLocks
from fleetlog.agents.worktrees.saving import own_part, save
from fleetlog.bus.embedded.files import FolderLock
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.programs import SystemPrograms
from fleetlog.bus.system import Clock

logger = logging.getLogger("fleetlog.agents")

REAP_S: Final = 300.0
"""How often an agent looks."""
_END_S: Final = 2.0
_POLL_S: Final = 0.02
_LOCK_S: Final = 2.0
_OWN_LOCKS: Final = ("index.lock", "HEAD.lock")

State = Literal["used", "left", "kept"]
"""An agent works in it; its agent is gone; it is kept for a while."""
Act = Literal["rescued", "removed", "failed"]


class Reaped(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about a worktree."""

    tree: Tree
    """As it is now."""
    act: Act
    """What."""
    problem: str | None = None
    """Why it failed; nothing is lost then."""


class Reaper:
    """Looks after the worktrees under one data folder. Any agent, and a person, may do so at any time."""

    def __init__(
        self, git: Git, records: TreeRecords, locks: RepositoryLocks, clock: Clock
    ) -> None:
        self._git = git
        self._records = records
        self._locks = locks
        self._clock = clock

    def look(self) -> list[tuple[Tree, State]]:
        """All worktrees, the oldest first."""
        return [(tree, self.state_of(tree)) for tree in self._records.read_all()]

    def state_of(self, tree: Tree) -> State:
        """What is to be thought of it."""
        if tree.phase == "kept":
            return "kept"
        return "used" if self._records.is_owner_alive(tree) else "left"

    def due(self, *, is_all: bool) -> list[tuple[Tree, Act]]:
        """What `reap` would do now."""
        now = self._clock.now()
        acts: list[tuple[Tree, Act]] = []
        for tree, state in self.look():
            match state:
                case "left":
                    is_empty = tree.phase == "making"
                    acts.append((tree, "removed" if is_all or is_empty else "rescued"))
                case "kept" if is_all or _is_over(tree, now):
                    acts.append((tree, "removed"))
                case "kept" if tree.saved is None:
                    acts.append((tree, "rescued"))
                case _:
                    pass
        return acts

    async def reap(self, *, is_all: bool = False) -> list[Reaped]:
        """Rescues what dead agents left, and removes what was kept long enough; all of it saved before.

        Args:
            is_all: what is kept goes too, whatever its time.

        Raises:
            ConfigError: another process is at it.
        """
        if not self._records.folder.is_dir():
            return []
        lock = FolderLock(self._records.reaping)
        if not await lock.acquire(self._clock):
            raise ConfigError("another process is reaping these worktrees: try again in a moment")
        try:
            found = [
                await self._do(tree, act, is_all=is_all) for tree, act in self.due(is_all=is_all)
            ]
            self._records.forget_owners(self._clock.now())
        finally:
            lock.release()
        return found

    async def run(self) -> None:
        """Reaps now and then, until cancelled."""
        while True:
            try:
                for each in await self.reap():
                    _tell(each)
            except (ConfigError, OSError) as error:
                logger.debug("worktrees are not looked after now: %s", error)
            await self._clock.sleep(REAP_S)

    async def save(self, tree: Tree, *, is_kept: bool) -> Tree:
        """Saves a worktree's work, and answers the record of that.

        What still runs of its attempt is ended before. What can't be saved stays where it is, until a person
        has looked.
        """
        await self._end_processes(tree)
        await self._clear_locks(tree)
        try:
            saved = await save(self._git, tree)
        except (GitFailed, OSError) as error:
            note = f"its work could not be saved ({error}) and is still in {tree.path}"
            logger.error("worktree %s: %s", tree.id, note)
            saved = None
        keep = is_kept or saved is None or not saved.is_whole
        until = self._clock.now() + timedelta(milliseconds=tree.keep_ms)
        tree = msgspec.structs.replace(
            tree,
            phase="kept" if keep else "saved",
            keep_until=until if keep and saved is not None and saved.is_whole else None,
            saved=saved,
        )
        try:
            self._records.write(tree)
        except ConfigError as error:
            # As it was written before, it counts as in use until its agent has gone; then it is saved again.
            logger.error("worktree %s: %s", tree.id, error)
        return tree

    async def remove(self, tree: Tree) -> None:
        """Removes a worktree whose work is saved.

        Raises:
            GitFailed: something of it is still there; it may be done again.
        """
        if tree.phase == "making":
            # Of any other they were ended before it was saved.
            await self._end_processes(tree)
        await remove(self._git, self._records, self._locks, tree)

    async def _do(self, tree: Tree, act: Act, *, is_all: bool) -> Reaped:
        if tree.phase != "making":
            # Once more before it goes: a person may have worked in it.
            tree = await self.save(tree, is_kept=True)
            saved = tree.saved
            if saved is None or (act == "removed" and not (is_all or saved.is_whole)):
                return Reaped(tree=tree, act="failed", problem=_problem(tree))
        if act == "rescued":
            return Reaped(tree=tree, act="rescued")
        try:
            await self.remove(tree)
        except GitFailed as error:
            return Reaped(tree=tree, act="failed", problem=str(error))
        return Reaped(tree=tree, act="removed")

    async def _clear_locks(self, tree: Tree) -> None:
        """Removes lock files that a killed git left on what is the worktree's own; others go by themselves."""
        own = own_part(tree)
        paths = [tree.common_dir / f"{BRANCHES}{tree.branch}.lock"]
        paths += [own / name for name in _OWN_LOCKS] if own is not None else []
        left = {path: seen for path in paths if (seen := _identity_of(path)) is not None}
        give_up_at = self._clock.monotonic() + _LOCK_S
        while left and self._clock.monotonic() < give_up_at:
            await self._clock.sleep(_POLL_S)
            left = {path: seen for path, seen in left.items() if _identity_of(path) == seen}
        for path in left:
            logger.warning("worktree %s: %s was left by a git that was killed", tree.id, path)
            path.unlink(missing_ok=True)

    async def _end_processes(self, tree: Tree) -> None:
        if not await sweep(f"{MARK}={tree.path}", (), self._clock, _END_S):
            logger.warning("worktree %s: processes of its attempt will not end", tree.id)


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def reaper_of(data: Path, clock: Clock, environ: Mapping[str, str]) -> Reaper:
    """Who looks after the worktrees under a data folder.

    Args:
        data: the folder.
        clock: time.
        environ: the environment, of which git sees a part.
    """
    git = Git(SystemPrograms(), clock, environ)
    return Reaper(git, TreeRecords(data), RepositoryLocks(clock), clock)


def _is_over(tree: Tree, now: datetime) -> bool:
    return tree.keep_until is not None and tree.keep_until <= now


def _problem(tree: Tree) -> str:
    if tree.saved is None:
        return f"its work can't be saved; it is in {tree.path}"
    return tree.saved.note or "not all of it is saved"


def _tell(reaped: Reaped) -> None:
    tree = reaped.tree
    match reaped.act:
        case "rescued":
            logger.warning(
                "worktree %s: its agent is gone; its work is %s, its folder %s stays for now",
                tree.id,
                place_of(tree.saved),
                tree.path,
            )
        case "removed":
            logger.info("worktree %s is removed; its work is %s", tree.id, place_of(tree.saved))
        case "failed":
            logger.error("worktree %s stays: %s", tree.id, reaped.problem)


def place_of(saved: Saved | None) -> str:
    """Where the work is, for people."""
    if saved is None:
        return "not saved"
    if saved.branch is None:
        return "nothing: no commits"
    return f"on {saved.branch}, commits: {saved.commits}"
