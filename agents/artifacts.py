"""Artifacts: files that an attempt named, on their way into the object store when it has ended."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import PurePath
from typing import Final

from fleetlog.agents.frames import ArtifactNamed
from fleetlog.agents.payloads import AWAY_S, PAUSE_S
from fleetlog.bus.errors import ObjectLost, TransportError
from fleetlog.bus.objects import Objects
from fleetlog.bus.system import Clock
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.objects import ARTIFACT_MAX_BYTES, ARTIFACTS_MAX, Artifact, ObjectRef

logger = logging.getLogger("fleetlog.agents")

NAME_MAX: Final = 256
NAMED_MAX: Final = 1000
"""Of an attempt that names more files, only so many of the last ones are looked at."""
_MEDIA_TYPE_DEFAULT: Final = "application/octet-stream"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ArtifactStore:
    """Stores what an attempt named."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock

    async def store(self, named: Iterable[ArtifactNamed]) -> tuple[tuple[Artifact, ...], list[str]]:
        """Stores the files; of one name the last counts.

        Returns:
            What is stored, and a line for people about each file that is not.
        """
        wanted = {_name_of(each): each for each in named}
        stored: list[Artifact] = []
        troubles: list[str] = []
        give_up_at = self._clock.monotonic() + AWAY_S
        for name, each in wanted.items():
            try:
                if len(stored) >= ARTIFACTS_MAX:
                    raise InvalidInput(f"an attempt may leave at most {ARTIFACTS_MAX}")  # noqa: TRY301
                stored.append(await self._store(name, each, give_up_at))
            except (InvalidInput, ObjectLost, TransportError, OSError) as error:
                troubles.append(f"artifact {name[:NAME_MAX]!r} is not kept: {_text(error)}\n")
        return tuple(stored), troubles

    async def _store(self, name: str, named: ArtifactNamed, give_up_at: float) -> Artifact:
        if not name.isprintable() or not 0 < len(name) <= NAME_MAX:
            raise InvalidInput(f"a name has 1 to {NAME_MAX} printable characters: give it another")
        file = await asyncio.to_thread(open_inside, named.root, named.path)
        try:
            ref = await self._put(file, give_up_at)
        finally:
            file.close()
        media_type = named.media_type or mimetypes.guess_type(name)[0] or _MEDIA_TYPE_DEFAULT
        return Artifact(name=name, sha256=ref.sha256, size=ref.size, media_type=media_type)

    async def _put(self, file: BufferedReader, give_up_at: float) -> ObjectRef:
        while True:
            try:
                return await self._objects.put(file)
            except TransportError as error:
                if self._clock.monotonic() >= give_up_at:
                    raise
                logger.warning("an artifact waits to be stored: %s", error)
            await self._clock.sleep(PAUSE_S)


def open_inside(root: str, path: str) -> BufferedReader:
    """Opens a plain file below a folder, for reading; symbolic links count as what they lead to.

    Raises:
        InvalidInput: it is outside of the folder, no plain file, or too large.
        OSError: it is not there or may not be read.
    """
    if "\0" in path:
        raise InvalidInput("a path has no zero characters")
    folder = os.path.realpath(root)
    real = PurePath(os.path.realpath(os.path.join(folder, path)))  # noqa: PTH118 - realpath follows
    if not real.is_relative_to(folder) or real == PurePath(folder):
        raise InvalidInput(f"{path!r} is not a file inside {folder}: copy it there first")
    fd = _open_below(folder, real.relative_to(folder).parts)
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode) or about.st_size > ARTIFACT_MAX_BYTES:
        os.close(fd)
        if stat.S_ISREG(about.st_mode):
            raise InvalidInput(
                f"{path!r} has {about.st_size} bytes, at most {ARTIFACT_MAX_BYTES} are allowed"
            )
        raise InvalidInput(f"{path!r} is not a plain file")
    return os.fdopen(fd, "rb")


def _open_below(folder: str, parts: tuple[str, ...]) -> int:
    # Step by step and through no link, so that nobody can put one in the way after the path was looked at.
    at = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return os.open(parts[-1], _FILE, dir_fd=at)
    finally:
        os.close(at)


def _name_of(named: ArtifactNamed) -> str:
    return named.path.rstrip("/").rpartition("/")[2] if named.name is None else named.name


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}; it must be there until the attempt has ended"
    return str(error)
