"""An attempt as an executor sees it, and what an executor is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from fleetlog.agents.answers import GatherFailed
from fleetlog.agents.executors.output import AttemptOutput
from fleetlog.agents.frames import (
    Alive,
    ArtifactNamed,
    Gather,
    Gathered,
    Outcome,
    Run,
    Spawn,
    Started,
    StopWhy,
    ToSupervisor,
    Used,
    Utilization,
)
from fleetlog.bus.system import Clock
from fleetlog.schemas.events import Usage

_ALIVE_EVERY_S: Final = 0.1
_USED_EVERY_S: Final = 1.0


class Ended(msgspec.Struct, frozen=True):
    """How an attempt ended."""

    outcome: Outcome
    """Its outcome."""
    exit_code: int | None = None
    """Of a command, negative for a signal."""
    usage: Usage | None = None
    """What it said that it used."""
    session_id: str | None = None
    """Of an agent CLI."""
    utilizations: tuple[Utilization, ...] = ()
    """What it said about its credential's allowances."""


class Attempt:
    """One attempt while it runs. All of it belongs to the loop's thread, except `output` and `leave`."""

    def __init__(
        self,
        run: Run,
        *,
        output: AttemptOutput,
        send: Callable[[ToSupervisor], None],
        note_group: Callable[[int], None],
        clock: Clock,
    ) -> None:
        self.run = run
        self.output = output
        self.clock = clock
        self.stop_why: StopWhy | None = None
        self._send = send
        self._note_group = note_group
        self._on_stop: Callable[[], object] | None = None
        self._alive_at = float("-inf")
        self._used_at = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._gathers: dict[str, asyncio.Future[Gathered]] = {}

    @property
    def is_stopping(self) -> bool:
        """It was told to end."""
        return self.stop_why is not None

    def on_stop(self, act: Callable[[], object] | None) -> None:
        """Sets what `stop` does; done at once if the stop came before."""
        self._on_stop = act
        if act is not None and self.is_stopping:
            act()

    def stop(self, why: StopWhy) -> None:
        """Asks it to end; the first time counts."""
        if self.stop_why is None:
            self.stop_why = why
            if self._on_stop is not None:
                self._on_stop()

    def started(self, pgid: int) -> None:
        """Tells the supervisor about a process group, so that it can end it if this worker dies."""
        self._note_group(pgid)
        self._send(Started(self.run.run_id, pgid))

    def leave(
        self, root: str, path: str, name: str | None = None, media_type: str | None = None
    ) -> None:
        """Tells the supervisor about a file in the folder `root` that shall be kept; any thread may call it."""
        named = ArtifactNamed(self.run.run_id, root, path, name, media_type)
        if threading.get_ident() == self._thread_id:
            self._send(named)
        else:
            self._loop.call_soon_threadsafe(self._send, named)

    async def gather(self, barrier_id: str, plan: bytes) -> str:
        """Waits for the tasks of a fan-out; answers the file with their outcomes, which the caller removes.

        Raises:
            GatherFailed: they could not be made, or their policy can't be met.
        """
        answer: asyncio.Future[Gathered] = self._loop.create_future()
        self._gathers[barrier_id] = answer
        self._send(Gather(self.run.run_id, barrier_id, plan))
        try:
            gathered = await answer
        finally:
            del self._gathers[barrier_id]
        if gathered.children is None:
            raise GatherFailed(gathered.error or "")
        return gathered.children

    def gathered(self, message: Gathered) -> None:
        """Hands an answer to who waits for it."""
        answer = self._gathers.get(message.barrier_id)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def spawn(self, task_id: str, spec: bytes) -> None:
        """Has a task made that nobody waits for."""
        self._send(Spawn(self.run.run_id, task_id, spec))

    def alive(self) -> None:
        """Passes a sign of life on, ten times a second at most."""
        now = self.clock.monotonic()
        if now - self._alive_at >= _ALIVE_EVERY_S:
            self._alive_at = now
            self._send(Alive(self.run.run_id))

    def used(self, usage: Usage) -> None:
        """Passes on what it has used so far, once a second at most; in between a sign of life."""
        now = self.clock.monotonic()
        if now - self._used_at >= _USED_EVERY_S:
            self._used_at = self._alive_at = now
            self._send(Used(self.run.run_id, usage))
        else:
            self.alive()


class Executor(Protocol):
    """Runs attempts of one kind."""

    async def run(self, attempt: Attempt) -> Ended:
        """Runs one to its end; when it returns, nothing of the attempt runs any more.

        After `attempt.stop` it ends soon, with `Stopped` unless the attempt gave a result all the same.
        """
        ...
