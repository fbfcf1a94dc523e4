"""What lives beside the log because it is much and its loss costs nothing: beats, output, hints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from fleetlog.schemas.beats import Beat, CoordinatorBeat, OutputChunk, StoredBeat


class StoredCoordinatorBeat(msgspec.Struct, frozen=True):
    """A coordinator's beat and its age."""

    age_s: float
    """Since the server received it."""
    beat: CoordinatorBeat
    """What was said."""


class Beats(Protocol):
    """The heartbeats of all agents, and of the coordinator, kept for a short while."""

    def publish(self, beat: Beat | CoordinatorBeat) -> None:
        """Sends a beat; not acknowledged."""
        ...

    def listen(
        self, heard: Callable[[Beat | CoordinatorBeat], None]
    ) -> AbstractAsyncContextManager[None]:
        """Calls `heard` for each beat of anyone while the context is open, in the order the server got them.

        Args:
            heard: called from within the reading of the socket.
        """
        ...

    async def last_of_coordinator(self) -> StoredCoordinatorBeat | None:
        """The last beat of any coordinator; None when the server holds none."""
        ...

    def follow(self) -> AsyncIterator[list[StoredBeat]]:
        """New beats of every agent from now on, for ever."""
        ...

    async def last(self, agent_id: str) -> StoredBeat | None:
        """The agent's last beat; None when the server holds none."""
        ...

    async def silence_s(self, agent_id: str) -> float:
        """For how long the agent is known to have said nothing.

        Counted from its last beat or, without one, from when the server began to keep beats: they live in its
        memory, so after a restart their absence says nothing about the time before. 0 when nobody knows.
        """
        ...


class Outputs(Protocol):
    """The output of attempts."""

    async def publish(self, task_id: str, attempt: int, chunks: list[OutputChunk]) -> None:
        """Sends output at the connection's pace; not acknowledged."""
        ...

    def read(
        self, task_id: str, *, attempt: int | None = None, follow: bool = False
    ) -> AsyncIterator[tuple[int, OutputChunk]]:
        """Output of a task in order, as (attempt, chunk); `follow` goes on for ever."""
        ...


class Hints(Protocol):
    """A word that a task settled or shall end; may be lost, so whoever hears it confirms it from the log."""

    def publish(self, task_id: str, seq: int, *, to: str | None = None) -> None:
        """Says that event `seq` of the task is worth reading.

        Args:
            task_id: the task.
            seq: the event.
            to: the agent that should look; None for whoever waits for the task.
        """
        ...

    def listen(
        self, about: str, heard: Callable[[str, int], None]
    ) -> AbstractAsyncContextManager[None]:
        """Calls `heard(task_id, sequence)` for each hint while the context is open.

        Args:
            about: a task's id, or an agent's for what it should look at.
            heard: called from within the reading of the socket.
        """
        ...
