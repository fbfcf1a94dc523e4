"""Private files and locks in the data folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import Clock

_PATIENCE_S: Final = 0.5
_POLL_S: Final = 0.02


def make_private_folder(path: Path) -> None:
    """Makes `path` and what is missing above it, for its owner only; a folder that exists stays as it is.

    Raises:
        ConfigError: it can't be made or written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the data folder {path} can't be made ({error.strerror}): name another one with --data"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the data folder {path} can't be written to: name another one with --data"
        )


def write_private(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one step, readable by its owner only; readers see the old file or the new.

    Raises:
        ConfigError: it can't be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} can't be written ({error.strerror}): free some space or name another folder"
            " with --data"
        ) from error


class FolderLock:
    """A file whose lock lasts as long as a process has it open, however that process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """For a child process that shall hold the lock too. Not inherited unless it is passed on."""
        assert self._descriptor is not None
        return self._descriptor

    async def acquire(self, clock: Clock) -> bool:
        """Takes the lock; False if another process keeps it.

        Waits half a second, because a process that looks (`is_held`) has the lock for an instant.

        Raises:
            ConfigError: the file can't be made or opened.
        """
        deadline = clock.monotonic() + _PATIENCE_S
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self._path} can't be opened ({error.strerror}): name another folder with --data"
            ) from error
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if clock.monotonic() > deadline:
                os.close(descriptor)
                return False
            await clock.sleep(_POLL_S)
        self._descriptor = descriptor
        return True

    def write_owner(self, pid: int) -> None:
        """Notes the holder's process id in the file, for messages."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, str(pid).encode(), 0)

    def read_owner(self) -> int | None:
        """The process id that the last holder noted."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        """Lets go; a child that got the descriptor still holds it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(path: Path) -> bool:
    """Whether any process holds the lock at `path`, at this instant."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
