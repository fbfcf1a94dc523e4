"""How a repository wants its worktrees: a small file in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.worktrees.failures import WorktreeFailed
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput

FILE_NAME: Final = ".fleetlog/worktree.toml"
Text = Annotated[str, Meta(pattern="^[^\\x00]+$")]


class TreeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file may say."""

    setup: Text | None = None
    """A shell command that makes a new worktree ready; run in it."""
    setup_timeout: str = "10m"
    """The longest it may take."""
    copy: tuple[Text, ...] = ()
    """Files of the checkout that git does not know and the work needs, such as `.env`; `*` stands for any."""
    keep: str = "24h"
    """How long a worktree stays after a failure."""
    name: Text | None = None
    """Who commits; `fleetlog agent <task>` if not given."""
    email: Text | None = None
    """Their address; `<task>@fleetlog.invalid` if not given."""

    @property
    def keep_ms(self) -> int:
        """`keep` in milliseconds."""
        return parse_duration(self.keep, "keep")

    @property
    def setup_timeout_s(self) -> float:
        """`setup_timeout` in seconds."""
        return parse_duration(self.setup_timeout, "setup_timeout") / 1000


def read_settings(worktree: Path, checkout: Path) -> TreeSettings:
    """The file as it is committed, else as it stands in the checkout, else the defaults.

    Raises:
        WorktreeFailed: it can't be read, or says what it may not.
    """
    for folder in (worktree, checkout):
        path = folder / FILE_NAME
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise WorktreeFailed(f"{path} can't be read: {error.strerror}") from error
        return _parse(text, path)
    return TreeSettings()


def _parse(text: bytes, path: Path) -> TreeSettings:
    try:
        settings = msgspec.toml.decode(text, type=TreeSettings)
        if settings.keep_ms < 0 or settings.setup_timeout_s <= 0:
            raise InvalidInput("setup_timeout must be more than nothing")  # noqa: TRY301
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidInput) as error:
        raise WorktreeFailed(f"{path}: {error}", is_permanent=True) from error
    return settings
