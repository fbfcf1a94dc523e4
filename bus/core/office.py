"""`Office`: which of several coordinators acts. Nothing relies on it: two that act at once do the same acts."""

from __future__ import annotations

from typing import Final

SILENT_MAX_S: Final = 3.0
"""When the active one was silent for so long, another one takes over."""
PAUSE_S: Final = 1.5
"""Who looks less often has itself been away: it listens for that long before it takes over."""


class Office:
    """One coordinator's view. All instants are of its own monotonic clock.

    The active one says so in every beat, with its term. Who takes over counts one further. Of two that are
    active the one with the lower term yields, at equal terms the one with the smaller id.

    Args:
        own_id: whose view.
        at: now; the office is free from then on, as long as nobody is heard.
    """

    def __init__(self, own_id: str, at: float) -> None:
        self._own_id = own_id
        self._looked_at = at
        self._free_at = at
        self.term = 0
        """The highest that was heard of."""
        self.holder: str | None = None
        """Who is active, as far as is known here."""

    @property
    def is_ours(self) -> bool:
        """We are the active one."""
        return self.holder == self._own_id

    def hear(self, coordinator_id: str, term: int, at: float, *, is_active: bool) -> None:
        """A beat of a coordinator; one that is not active has just resigned."""
        if coordinator_id == self._own_id:
            return
        if (term, coordinator_id) < (self.term, self.holder or ""):
            return  # it yields when it hears of the other one
        self.term = term
        self.holder = coordinator_id if is_active else None
        self._free_at = at + SILENT_MAX_S if is_active else at

    def look(self, at: float) -> bool:
        """Takes the office if it is free; answers whether it is ours. Call it several times a second."""
        if at - self._looked_at > PAUSE_S:
            self._free_at = max(self._free_at, at + SILENT_MAX_S)
        self._looked_at = at
        if not self.is_ours and at >= self._free_at:
            self.holder = self._own_id
            self.term += 1
        return self.is_ours
