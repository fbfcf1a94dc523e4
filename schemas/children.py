"""A member of a barrier as its continuation sees it."""

from __future__ import annotations

from typing import Any

import msgspec


class Child(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One member and its outcome when the barrier was released."""

    task_id: str
    """The member."""
    handler: str | None = None
    """What it was; None for a task that was there before."""
    args: Any = None
    """Its arguments; None for those and for arguments too large for an event."""
    state: str
    """`completed`, `failed`, `cancelled`, `expired`, or `open` if it was not waited for."""
    result: Any = None
    """What it gave; that of its continuation, if it fanned out itself."""
    error: str | None = None
    """Why it did not complete."""
    error_class: str | None = None
    """The kind of error."""

    @property
    def is_completed(self) -> bool:
        """Whether it succeeded."""
        return self.state == "completed"
