"""What goes wrong with a worktree before the attempt runs in it."""

from __future__ import annotations

from fleetlog.bus.errors import FleetlogError


class WorktreeFailed(FleetlogError):
    """The attempt has no worktree, and nothing of it ran; what was made of it is kept or gone.

    Attributes:
        is_permanent: another attempt would meet the same.
    """

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent
