"""What a process knows last to be in the log: by that it finds out that a server came back without it."""

from __future__ import annotations

import msgspec

from fleetlog.bus.jetstream.hold import Hold


class _EventId(msgspec.Struct, frozen=True):
    id: str = ""


class LastKnown:
    """What was stored last, and what was so before each break.

    Args:
        hold: whether what was read counts like what was stored.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._last = (0, "")
        self.doubtful: list[tuple[int, str]] = []
        """Sequence and id of what was known last before each reconnect: its server may have lost it."""

    def note(self, seq: int, event_id: str) -> None:
        """The server has acknowledged this event."""
        if seq > self._last[0]:
            self._last = (seq, event_id)

    def note_read(self, seq: int, data: bytes) -> None:
        """The server has shown this event, otherwise than in its turn."""
        if self._hold.is_reader:
            self.note(seq, id_of(data))

    def doubt(self) -> None:
        """The connection is back."""
        # Kept, though it may have been looked for before: the server may lose it yet, until it has synced.
        if self._last[0] and self._last not in self.doubtful:
            self.doubtful.append(self._last)

    def forget(self) -> None:
        """What was known last is gone, and known to be: nothing is in doubt any more."""
        self.doubtful.clear()
        self._last = (0, "")


def id_of(data: bytes) -> str:
    """The id of an encoded event; empty if it can't be read."""
    try:
        return msgspec.json.decode(data, type=_EventId).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
