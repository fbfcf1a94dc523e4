"""The end of a worktree, when all of its work is saved."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path

from fleetlog.agents.worktrees.git import Git, GitFailed, Place
from fleetlog.agents.worktrees.permissions import open_up
from fleetlog.agents.worktrees.records import Tree, TreeRecords
from fleetlog.agents.worktrees.repositories import BRANCHES, RepositoryLocks
from fleetlog.agents.worktrees.saving import own_part, tip_of


async def remove(git: Git, records: TreeRecords, locks: RepositoryLocks, tree: Tree) -> None:
    """Removes folder, git's record of it, and the branch if it has no commits; may be done again after a crash.

    `git worktree prune` is never run: it would forget worktrees of other people whose disk is away.

    Raises:
        GitFailed: the folder can't be removed, or git can't forget it.
    """
    trash = records.trash / tree.id
    try:
        await asyncio.to_thread(_throw_away, tree.path, trash)
    except OSError as error:
        raise GitFailed(f"{tree.path} can't be removed: {error.strerror}") from error
    if tree.common_dir.is_dir():
        async with locks.held(tree.common_dir):
            if own_part(tree) is not None:
                # Twice --force: it is locked, by us.
                at = Place(git_dir=tree.common_dir)
                await git.run("worktree", "remove", "-f", "-f", str(tree.path), at=at)
            await _remove_empty_branch(git, tree)
    try:
        await asyncio.to_thread(remove_folder, trash)
    except OSError as error:
        raise GitFailed(f"{trash} can't be removed: {error.strerror}") from error
    records.remove(tree)


def remove_folder(path: Path) -> None:
    """Removes a folder and all in it, also what may not be written to; a link only itself."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        open_up(path)
        shutil.rmtree(path)


def _throw_away(path: Path, trash: Path) -> None:
    # In one step, so that no half of it is ever taken for the work.
    if not os.path.lexists(path):
        return
    remove_folder(trash)
    if not path.is_symlink():
        path.chmod(stat.S_IRWXU)
    path.rename(trash)


async def _remove_empty_branch(git: Git, tree: Tree) -> None:
    tip = await tip_of(git, tree, tree.branch)
    if tip is None:
        return
    at = Place(git_dir=tree.common_dir)
    ref = BRANCHES + tree.branch
    if await git.run("for-each-ref", "--format=%(worktreepath)", ref, at=at):
        # Not ours: another fleet's agent was first with this name.
        return
    if await git.run("rev-list", "--count", f"{tree.base}..{tip}", at=at) == "0":
        # Only as it was looked at: never one that got a commit meanwhile.
        await git.run("update-ref", "-d", ref, tip, at=at)
