"""`Watch`: which agents are lost. Silence counts only while the watcher hears itself by the same path."""

from __future__ import annotations

from typing import Final

import msgspec

SILENCE_S: Final = 3.5
"""Three beats, and half a one for their way: an agent that says nothing for longer is lost."""
GAP_S: Final = 2.0
"""When our own beats come back further apart, the path was broken and the silence of others says nothing."""
GRACE_S: Final = 6.0
"""What every agent gets after that: it may find the server again later than we did."""


class Silence(msgspec.Struct, frozen=True):
    """An agent that is lost."""

    agent_id: str
    """The incarnation."""
    silent_s: float
    """For how long, by our own clock."""


class Watch:
    """Listens to agents. All instants are of one monotonic clock, the caller's own, and never go back.

    It begins like after a gap: with a full grace for everybody, and believing nothing before it hears itself.
    """

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._echoed_at: float | None = None
        self._counts_from = 0.0

    def enroll(self, agent_id: str, at: float) -> None:
        """Watches an agent from now on; one that is watched already stays as it is."""
        self._heard.setdefault(agent_id, at)

    def dismiss(self, agent_id: str) -> None:
        """Watches it no more."""
        self._heard.pop(agent_id, None)

    def hear(self, agent_id: str, at: float) -> None:
        """A beat of an agent."""
        if agent_id in self._heard:
            self._heard[agent_id] = at

    def hear_self(self, at: float) -> None:
        """Our own beat came back."""
        if self._echoed_at is None or at - self._echoed_at > GAP_S:
            self._counts_from = at + GRACE_S - SILENCE_S
        self._echoed_at = at

    def pardon(self) -> None:
        """Something came between us and the agents (a reconnect, a takeover): all begin with a full grace."""
        self._echoed_at = None

    def lost(self, at: float) -> list[Silence]:
        """Who is lost now. Whoever asks late, after the own beats have stopped, learns of nobody."""
        if self._echoed_at is None or at - self._echoed_at > GAP_S:
            return []
        return [
            Silence(agent_id, silent_s)
            for agent_id, heard_at in self._heard.items()
            if (silent_s := self._echoed_at - max(heard_at, self._counts_from)) > SILENCE_S
        ]
