"""An attempt as the agent follows it in its worker process, and who hears of what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from fleetlog.agents.frames import Alive, ArtifactNamed, Done, Gather, Run, Spawn, Started, Used
from fleetlog.schemas.beats import OutputChunk
from fleetlog.schemas.events import Usage

Rarer = Alive | Used | ArtifactNamed | Started | Gather | Spawn
OnOutput = Callable[[Sequence[OutputChunk]], None]
OnSign = Callable[[], None]
OnArtifact = Callable[[ArtifactNamed], None]
OnWish = Callable[[Gather | Spawn], None]


class WorkerRun:
    """An attempt that runs in the worker."""

    __slots__ = (
        *("done", "on_alive", "on_artifact", "on_output", "on_started"),
        *("on_wish", "output_at", "pgids", "run", "usage"),
    )

    def __init__(
        self,
        run: Run,
        on_output: OnOutput | None,
        on_started: OnSign | None,
        on_alive: OnSign | None,
        on_artifact: OnArtifact | None,
        on_wish: OnWish | None,
    ) -> None:
        self.run = run
        self.on_wish = on_wish
        self.on_artifact = on_artifact
        self.on_output = on_output
        self.on_started = on_started
        self.on_alive = on_alive
        self.pgids: list[int] = []
        self.usage: Usage | None = None
        self.output_at: datetime | None = None
        self.done: asyncio.Future[Done] = asyncio.get_running_loop().create_future()

    def hear_output(self, chunks: Sequence[OutputChunk], now: datetime) -> None:
        """Takes output."""
        self.output_at = now
        if self.on_output:
            self.on_output(chunks)

    def hear(self, message: Rarer, now: datetime) -> None:
        """Takes what is rarer than output."""
        match message:
            case Gather() | Spawn():
                if self.on_wish:
                    self.on_wish(message)
            case Alive() | Used():
                self.output_at = now
                if isinstance(message, Used):
                    self.usage = message.usage
                if self.on_alive:
                    self.on_alive()
            case ArtifactNamed() if self.on_artifact:
                self.on_artifact(message)
            case Started(_, pgid):
                if pgid is not None:
                    self.pgids.append(pgid)
                if self.on_started:
                    self.on_started()
