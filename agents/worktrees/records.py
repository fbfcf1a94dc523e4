"""What is known of each worktree, in files of the data folder: all that it takes to save its work later."""

from __future__ import annotations

import logging
import os
import uuid
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleetlog.bus.embedded.files import FolderLock, is_held, make_private_folder, write_private

logger = logging.getLogger("fleetlog.agents")

_SUFFIX: Final = ".json"
_OWNER_AGE_S: Final = 3600.0


class Saved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a worktree's work stands in its repository."""

    branch: str | None = None
    """The branch that holds all of it; None when there was none."""
    head: str
    """The last commit of it."""
    commits: int = 0
    """How many since the base."""
    files_changed: int = 0
    """Between base and head, as are the lines below."""
    insertions: int = 0
    """Lines."""
    deletions: int = 0
    """Lines."""
    note: str | None = None
    """What a person should know about it."""
    is_whole: bool = True
    """Nothing but ignored files goes with the folder."""


class Tree(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One worktree."""

    id: str
    """Unique in the data folder: task and attempt."""
    owner: str
    """The agent that made it."""
    pid: int
    """The agent's process, for people."""
    task_id: str
    """Whose attempt."""
    attempt: int
    """Which."""
    fence: int
    """Its lease."""
    repository: Path
    """The checkout's top folder."""
    common_dir: Path
    """The repository itself."""
    path: Path
    """The worktree's folder."""
    branch: str
    """Its branch."""
    base: str
    """The commit it began from."""
    made_at: datetime
    """When."""
    keep_ms: int
    """How long it stays after a failure."""
    copied: tuple[str, ...] = ()
    """Files that came from the checkout and are no work of the attempt."""
    phase: Literal["making", "used", "saved", "kept"] = "making"
    """Nothing has run in it; in use; saved and about to be removed by its owner; saved and kept for a while."""
    keep_until: datetime | None = None
    """Of a kept one; None when only a person may remove it, because not all of it could be saved."""
    saved: Saved | None = None
    """What was saved."""


class TreeRecords:
    """The records under one data folder."""

    def __init__(self, data: Path) -> None:
        self.folder = data.resolve() / "worktrees"
        self.trees = self.folder / "trees"
        self.trash = self.folder / "trash"
        self.reaping = self.folder / "reaping"
        self._records = self.folder / "records"
        self._owners = self.folder / "owners"

    def make_folders(self) -> None:
        """Makes what is missing.

        Raises:
            ConfigError: it can't be made.
        """
        for folder in (self.trees, self.trash, self._records, self._owners):
            make_private_folder(folder)

    def owner_lock(self, owner: str) -> FolderLock:
        """Held by an agent as long as it lives, however it ends. Unlike a process id it is never another's."""
        return FolderLock(self._owners / owner)

    def is_owner_alive(self, tree: Tree) -> bool:
        """Whether the agent that made it still runs."""
        return is_held(self._owners / tree.owner)

    def add(self, tree: Tree) -> bool:
        """Writes the first record of a worktree; False if there is one of that id."""
        draft = self.folder / f".{uuid.uuid4().hex}"
        write_private(draft, _encoder.encode(tree))
        try:
            os.link(draft, self._path(tree.id))
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def write(self, tree: Tree) -> None:
        """Replaces the record."""
        write_private(self._path(tree.id), _encoder.encode(tree))

    def remove(self, tree: Tree) -> None:
        """Forgets the worktree."""
        self._path(tree.id).unlink(missing_ok=True)

    def read(self, tree_id: str) -> Tree | None:
        """The record as it is now; None when there is none, or none that can be read."""
        try:
            return _decoder.decode(self._path(tree_id).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("the record %s can't be read: %s", self._path(tree_id), error)
            return None

    def read_all(self) -> list[Tree]:
        """All records that can be read, the oldest first."""
        ids = [path.name.removesuffix(_SUFFIX) for path in self._records.glob(f"*{_SUFFIX}")]
        found = [tree for tree_id in ids if (tree := self.read(tree_id)) is not None]
        return sorted(found, key=lambda tree: tree.made_at)

    def forget_owners(self, now: datetime) -> None:
        """Removes the files of agents that have gone and left no worktree."""
        named = {tree.owner for tree in self.read_all()}
        # One that was made a moment ago may be about to be locked.
        before = now.timestamp() - _OWNER_AGE_S
        for path in self._owners.glob("*"):
            if path.name not in named and path.stat().st_mtime < before and not is_held(path):
                path.unlink(missing_ok=True)

    def _path(self, tree_id: str) -> Path:
        return self._records / f"{tree_id}{_SUFFIX}"


_encoder: Final = msgspec.json.Encoder(enc_hook=os.fspath)
_decoder: Final = msgspec.json.Decoder(Tree, dec_hook=lambda kind, value: kind(value))
