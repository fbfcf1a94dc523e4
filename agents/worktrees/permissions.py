"""The owner's right to read and remove what a task locked itself out of."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def open_up(top: Path) -> None:
    """Lets the owner into every folder below `top` and read every file; links are not followed.

    Raises:
        OSError: a file is somebody else's.
    """
    _allow(top, stat.S_IRWXU)
    for folder, folders, files in os.walk(top):
        for name in folders:
            _allow(Path(folder, name), stat.S_IRWXU)
        for name in files:
            _allow(Path(folder, name), stat.S_IRUSR)


def _allow(path: Path, rights: int) -> None:
    mode = path.lstat().st_mode
    if not stat.S_ISLNK(mode) and mode & rights != rights:
        path.chmod(stat.S_IMODE(mode) | rights)
