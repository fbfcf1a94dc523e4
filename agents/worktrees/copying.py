"""Files that a worktree gets from the checkout because git does not know them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from fleetlog.agents.worktrees.failures import WorktreeFailed

FILES_MAX: Final = 2_000


def copy_files(patterns: tuple[str, ...], checkout: Path, worktree: Path) -> tuple[str, ...]:
    """Copies what the patterns name and the worktree does not have; symbolic links stay links.

    Returns:
        The paths of the copies, from the top folder.

    Raises:
        WorktreeFailed: a pattern leads out of the checkout, or a file can't be copied.
    """
    copied = []
    try:
        for source in _named(patterns, checkout):
            path = source.relative_to(checkout)
            name = _text(path)
            target = worktree / path
            if target.exists() or target.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(worktree.resolve()):
                raise WorktreeFailed(f"copy: {path} would lie outside of the worktree")
            shutil.copy2(source, target, follow_symlinks=False)
            copied.append(name)
    except OSError as error:
        raise WorktreeFailed(f"copy: {error}") from error
    return tuple(copied)


def _text(path: Path) -> str:
    try:
        return path.as_posix().encode().decode()
    except UnicodeEncodeError:
        raise WorktreeFailed(f"copy: {path!r} is not UTF-8: give it another name") from None


def _named(patterns: tuple[str, ...], checkout: Path) -> Iterator[Path]:
    count = 0
    own = len(checkout.parts)
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        if pattern.startswith("/") or ".." in parts or ".git" in parts:
            raise WorktreeFailed(
                f"copy: {pattern!r} must name files inside of the repository, none of git's own",
                is_permanent=True,
            )
        matches = (path for path in checkout.glob(pattern) if ".git" not in path.parts[own:])
        for found in sorted(matches):
            for file in _files_in(found):
                count += 1
                if count > FILES_MAX:
                    raise WorktreeFailed(
                        f"copy names more than {FILES_MAX} files: let setup make them",
                        is_permanent=True,
                    )
                yield file


def _files_in(path: Path) -> Iterator[Path]:
    if path.is_symlink() or path.is_file():
        yield path
    elif path.is_dir():
        for below in sorted(path.iterdir()):
            if below.name != ".git":
                yield from _files_in(below)
