"""What a process has stored last: by it, it finds out that a server came back without its last second."""

from __future__ import annotations


class LastStored:
    """The last event that was acknowledged, and those that were so before each break."""

    def __init__(self) -> None:
        self._last = (0, "")
        self.doubtful: list[tuple[int, str]] = []
        """Sequence and id of what was stored last before each reconnect: its server may have lost it."""

    def note(self, seq: int, event_id: str) -> None:
        """The server has acknowledged this event."""
        if seq > self._last[0]:
            self._last = (seq, event_id)

    def doubt(self) -> None:
        """The connection is back."""
        # Kept, though it may have been looked for before: the server may lose it yet, until it has synced.
        if self._last[0] and self._last not in self.doubtful:
            self.doubtful.append(self._last)

    def forget(self) -> None:
        """What was stored last is gone, and known to be: nothing is in doubt any more."""
        self.doubtful.clear()
        self._last = (0, "")
