"""The end of a worktree's use: what stands in it becomes commits of its repository, whatever state it is in."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from fleetlog.agents.worktrees.git import Git, GitFailed, Place, identity
from fleetlog.agents.worktrees.permissions import open_up
from fleetlog.agents.worktrees.records import Saved, Tree
from fleetlog.agents.worktrees.repositories import BRANCHES

_UNDER_WAY: Final = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
}
"""By file of the worktree's own part of the repository: what a task left unfinished."""
_RESCUES_MAX: Final = 100
_NOTE_CHARS_MAX: Final = 1000
_IDENTITY: Final = identity("fleetlog", "fleetlog@fleetlog.invalid")
_GITLINK: Final = re.compile(r":\d{6} 160000 ")


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt left."""

    own: Path | None
    """The worktree's own part of the repository; None when the task removed it."""
    has_files: bool
    """Its folder is there."""
    head: str | None
    """The commit checked out; None when there is none."""
    ref: str | None
    """The full name of the branch checked out; None when HEAD is detached."""
    under_way: str | None
    """What was not finished."""


async def save(git: Git, tree: Tree) -> Saved:
    """Commits what is not committed, so that a branch holds all of the attempt's work but ignored files.

    No hook runs, and neither a damaged index nor a lock file that a killed git left is in the way.
    The work goes onto the worktree's branch. Where the task left something unfinished, or has another commit
    checked out, that branch stays as it is, and the work goes onto a branch `…-rescue` beside it. Saving
    again what is saved changes nothing.

    Raises:
        GitFailed: not all could be saved; nothing of the worktree was changed.
    """
    state = await _look(git, tree)
    with tempfile.TemporaryDirectory(prefix="fleetlog-") as folder:
        files, trouble = await _write_tree(git, tree, state, Path(folder) / "index")
    head = await _commit(git, tree, state, files)
    branch, note = await _name(git, tree, state, head)
    if head is None:
        return Saved(head=tree.base, note=trouble, is_whole=trouble is None)
    if branch is not None and branch != tree.branch:
        # What was rescued before is the same work under another commit, of another second.
        head = await tip_of(git, tree, branch) or head
    if head != state.head and branch == tree.branch and state.own is not None:
        # So that a kept worktree shows no changes; of no use to what is saved.
        await git.find("read-tree", head, at=Place(git_dir=state.own))
    if embedded := await _embedded(git, tree, head):
        trouble = f"it holds repositories of its own: {', '.join(embedded)}. {trouble or ''}"
    counted = await _count(git, tree, head)
    notes = "; ".join(text.strip() for text in (note, trouble) if text)
    return msgspec.structs.replace(
        counted,
        branch=_text(branch) if branch is not None and counted.commits else None,
        note=_text(notes) or None,
        is_whole=trouble is None,
    )


def own_part(tree: Tree) -> Path | None:
    """The worktree's own part of its repository, found by the folder it belongs to."""
    wanted = tree.path / ".git"
    for path in (tree.common_dir / "worktrees").glob("*/gitdir"):
        try:
            if Path(os.fsdecode(path.read_bytes()).rstrip("\n")) == wanted:
                return path.parent
        except OSError:
            continue
    return None


async def tip_of(git: Git, tree: Tree, branch: str) -> str | None:
    """The commit of a branch; None when there is no such branch."""
    at = Place(git_dir=tree.common_dir)
    return await git.find("rev-parse", "-q", "--verify", f"{BRANCHES}{branch}^{{commit}}", at=at)


async def _look(git: Git, tree: Tree) -> _State:
    if not tree.common_dir.is_dir():
        raise GitFailed(f"the repository {tree.common_dir} is not there any more")
    own = own_part(tree)
    has_files = tree.path.is_dir() and not tree.path.is_symlink()
    if own is None:
        head = await tip_of(git, tree, tree.branch)
        ref = BRANCHES + tree.branch if head else None
        return _State(
            own=None, has_files=has_files, head=head or tree.base, ref=ref, under_way=None
        )
    at = Place(git_dir=own)
    return _State(
        own=own,
        has_files=has_files,
        head=await git.find("rev-parse", "-q", "--verify", "HEAD^{commit}", at=at),
        ref=await git.find("symbolic-ref", "-q", "HEAD", at=at),
        under_way=next((what for name, what in _UNDER_WAY.items() if (own / name).exists()), None),
    )


async def _write_tree(
    git: Git, tree: Tree, state: _State, index: Path
) -> tuple[str | None, str | None]:
    """The files as a tree object, None when there is nothing to make one of; and which it does not hold."""
    at = Place(
        git_dir=state.own or tree.common_dir,
        work_tree=tree.path if state.has_files else None,
        index=index,
    )
    has_index = _copy_index(state.own, index)
    if not state.has_files:
        # What was staged before the folder went.
        return (await git.find("write-tree", at=at) if has_index else None), None
    trouble = await _add(git, tree, at)
    if trouble is not None:
        # Perhaps the index is damaged, or the task locked itself out: all over again without either.
        await git.run("read-tree", *([state.head] if state.head else ["--empty"]), at=at)
        await asyncio.to_thread(open_up, tree.path)
        trouble = await _add(git, tree, at)
    return await git.run("write-tree", at=at), trouble


async def _add(git: Git, tree: Tree, at: Place) -> str | None:
    """Puts all files into the index; answers what git says of those that it could not."""
    ours = [f":(exclude,top,literal){path}" for path in tree.copied]
    ran = await git.attempt(
        "add", "--all", "--ignore-errors", "--", ".", *ours, at=at, cwd=tree.path
    )
    said = ran.err.decode(errors="replace").strip()
    # Of a folder that it may not look into, it only warns.
    is_done = ran.code == 0 and "Permission denied" not in said
    return None if is_done else f"not all could be saved: {said or ran.code}"


def _copy_index(own: Path | None, index: Path) -> bool:
    """Copies the index with what it remembers of each file, so that only changed ones are read."""
    if own is None or not (own / "index").is_file():
        return False
    shutil.copyfile(own / "index", index)
    return True


async def _commit(git: Git, tree: Tree, state: _State, files: str | None) -> str | None:
    """The commit that holds all of it; a new one if the files are not those of the one checked out."""
    at = Place(git_dir=tree.common_dir)
    if files is None:
        return state.head
    if state.head is not None:
        if files == await git.run("rev-parse", f"{state.head}^{{tree}}", at=at):
            return state.head
    elif files == await git.run("hash-object", "-t", "tree", "/dev/null", at=at):
        return None
    what = f" in the middle of {state.under_way}" if state.under_way else ""
    message = (
        f"Work of {tree.task_id} that was not committed{what}\n\n"
        f"Task-Id: {tree.task_id}\nAttempt: {tree.attempt}\n"
    )
    parents = ("-p", state.head) if state.head is not None else ()
    return await git.run("commit-tree", files, *parents, "-m", message, at=at, env=_IDENTITY)


async def _name(
    git: Git, tree: Tree, state: _State, head: str | None
) -> tuple[str | None, str | None]:
    """Makes sure that a branch holds `head`; answers which, and what a person should know."""
    if head is None:
        return None, None
    if head == tree.base:
        return tree.branch, None
    if state.ref == BRANCHES + tree.branch and (state.under_way is None or head == state.head):
        if head != state.head:
            await _point(git, tree, tree.branch, head, state.head or "")
        return tree.branch, None
    tip = await tip_of(git, tree, tree.branch)
    if tip is not None and await _contains(git, tree, tip, head):
        return tree.branch, None
    if state.ref is not None and head == state.head:
        return state.ref.removeprefix(BRANCHES), None
    rescue = await _rescue(git, tree, head)
    why = f"in the middle of {state.under_way}" if state.under_way else f"not on {tree.branch}"
    return rescue, f"it ended {why}: {rescue} holds what was there"


async def _rescue(git: Git, tree: Tree, head: str) -> str:
    """The name of a branch that holds `head`, made if need be."""
    for number in range(1, _RESCUES_MAX):
        name = f"{tree.branch}-rescue" + (f"-{number}" if number > 1 else "")
        tip = await tip_of(git, tree, name)
        if tip is None:
            await _point(git, tree, name, head, "")
            return name
        if await _is_same(git, tree, tip, head):
            return name
    raise GitFailed(f"too many branches {tree.branch}-rescue-N: remove some")


async def _point(git: Git, tree: Tree, branch: str, new: str, old: str) -> None:
    at = Place(git_dir=tree.common_dir)
    await git.run("update-ref", BRANCHES + branch, new, old or "0" * len(new), at=at)


async def _is_same(git: Git, tree: Tree, left: str, right: str) -> bool:
    """Whether two commits have the same files and parents: the work was saved before."""
    at = Place(git_dir=tree.common_dir)
    said = [await git.run("show", "-s", "--format=%T %P", each, at=at) for each in (left, right)]
    return said[0] == said[1]


async def _contains(git: Git, tree: Tree, branch_tip: str, commit: str) -> bool:
    at = Place(git_dir=tree.common_dir)
    return await git.find("merge-base", "--is-ancestor", commit, branch_tip, at=at) is not None


async def _embedded(git: Git, tree: Tree, head: str) -> list[str]:
    """Repositories that the task made inside of the worktree: git keeps their commit's id, not their files."""
    at = Place(git_dir=tree.common_dir)
    said = await git.run("diff-tree", "-r", "-z", "--no-renames", tree.base, head, at=at)
    parts = said.split("\0")
    found = [path for about, path in pairwise(parts) if _GITLINK.match(about)]
    # A repository in the place of the worktree itself.
    return [*found, "."] if (tree.path / ".git").is_dir() else found


async def _count(git: Git, tree: Tree, head: str) -> Saved:
    at = Place(git_dir=tree.common_dir)
    commits = int(await git.run("rev-list", "--count", f"{tree.base}..{head}", at=at))
    stat = await git.run("diff", "--shortstat", "--no-ext-diff", tree.base, head, at=at)
    return Saved(
        head=head,
        commits=commits,
        files_changed=_number(stat, "file"),
        insertions=_number(stat, "insertion"),
        deletions=_number(stat, "deletion"),
    )


def _text(said: str) -> str:
    """What git said of names that need not be Unicode, so that it can be written down; not too much of it."""
    return said.encode(errors="surrogateescape").decode(errors="replace")[:_NOTE_CHARS_MAX]


def _number(stat: str, what: str) -> int:
    found = re.search(rf"(\d+) {what}", stat)
    return int(found[1]) if found else 0
