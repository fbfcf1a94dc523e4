"""Records the agent's own life in the log: started, draining, stopped, and its workers' births and deaths."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Final

from fleetlog.agents.scaling import Change
from fleetlog.agents.strains import strains_text
from fleetlog.bus.errors import ConflictError, LogBrimful
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import entry
from fleetlog.schemas.envelope import encode
from fleetlog.schemas.events import (
    AgentDraining,
    AgentRecovered,
    AgentStarted,
    AgentStopped,
    AgentStrained,
    Event,
    QueueScaled,
    Strain,
    TaskEvent,
    WorkerExited,
    WorkerRefused,
    WorkerSpawned,
    type_of,
    verb_of,
)
from fleetlog.schemas.subjects import Subject, guard_of

BRIMFUL_PAUSE_S: Final = 1.0

logger = logging.getLogger("fleetlog.agents")


class Recorder:
    """Writes events of one agent in the order they happened. Implements the pool's `PoolEvents`."""

    def __init__(self, fleet: Fleet, agent_id: str, host: str) -> None:
        self._fleet = fleet
        self._agent_id = agent_id
        self._host = host
        self._queue: asyncio.Queue[tuple[Subject, Event]] = asyncio.Queue()
        self._versions: dict[str, int] = {}
        self._unborn: list[tuple[Subject, Event]] | None = []

    async def run(self) -> None:
        """Writes what is queued, until cancelled."""
        while True:
            subject, event = await self._queue.get()
            try:
                await self._append(subject, event)
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Waits until everything queued is in the log."""
        await self._queue.join()

    def started(self, **fields: Any) -> None:
        """The agent is up; see `AgentStarted` for the fields.

        What happened to workers before goes into the log behind it; without it, nothing goes at all.
        """
        unborn, self._unborn = self._unborn or [], None
        self._of_agent(AgentStarted(host=self._host, **fields, **self._stamp()))
        for subject, event in unborn:
            self._queue.put_nowait((subject, event))

    def draining(self, reason: str, actor: str | None = None) -> None:
        """It takes nothing new."""
        self._of_agent(AgentDraining(reason=reason, actor=actor, **self._stamp()))

    def strained(self, strains: tuple[Strain, ...]) -> None:
        """It takes nothing new for its host's sake; nothing is short any more where there is none."""
        if strains:
            self._of_agent(
                AgentStrained(strains=strains, reason=strains_text(strains), **self._stamp())
            )
        else:
            self._of_agent(AgentRecovered(**self._stamp()))

    def stopped(self, reason: str) -> None:
        """It has ended in order."""
        self._of_agent(AgentStopped(reason=reason, **self._stamp()))

    def scaled(self, queue: str, change: Change) -> None:
        """It keeps more workers from now on, or fewer."""
        event = QueueScaled(
            agent_id=self._agent_id,
            host=self._host,
            workers_before=change.before,
            workers_after=change.after,
            waiting=change.waiting_count,
            oldest_wait_ms=round(change.oldest_wait_s * 1000),
            reason=change.why,
            **self._stamp(),
        )
        subject = Subject(self._fleet.name, "queue", queue, verb_of(event))
        self._queue.put_nowait((subject, event))

    def on_spawned(self, worker_id: str, pid: int) -> None:
        """See `PoolEvents`."""
        self._of_worker(worker_id, WorkerSpawned(host=self._host, pid=pid, **self._stamp()))

    def on_exited(
        self, worker_id: str, pid: int, exit_code: int | None, signal: int | None, reason: str
    ) -> None:
        """See `PoolEvents`."""
        event = WorkerExited(
            host=self._host,
            pid=pid,
            exit_code=exit_code,
            signal=signal,
            reason=reason,
            **self._stamp(),
        )
        self._of_worker(worker_id, event)

    def refused(
        self, worker_id: str, task_id: str, attempt: int, fence: int, event: TaskEvent
    ) -> None:
        """A result that its lease no longer covered."""
        refused = WorkerRefused(
            task_id=task_id,
            attempt=attempt,
            fence=fence,
            verb=verb_of(event),
            digest=hashlib.sha256(encode(event)).hexdigest(),
            **self._stamp(),
        )
        self._of_worker(worker_id, refused)

    def _stamp(self) -> dict[str, Any]:
        return {"id": self._fleet.system.new_id(), "occurred_at": self._fleet.log.now()}

    def _of_agent(self, event: Event) -> None:
        subject = Subject(self._fleet.name, "agent", self._agent_id, verb_of(event))
        self._queue.put_nowait((subject, event))

    def _of_worker(self, worker_id: str, event: Event) -> None:
        subject = Subject(
            self._fleet.name, "worker", self._agent_id, verb_of(event), worker_id=worker_id
        )
        if self._unborn is None:
            self._queue.put_nowait((subject, event))
        else:
            self._unborn.append((subject, event))

    async def _append(self, subject: Subject, event: Event) -> None:
        log, guard = self._fleet.log, guard_of(subject)
        while True:
            expected = self._versions.get(guard, 0)
            try:
                self._versions[guard] = await log.append(entry(subject, expected, event))
            except ConflictError:
                last = await log.last(guard)
                self._versions[guard] = last.seq if last is not None else 0
            except LogBrimful as error:
                logger.error("%s waits to be recorded: %s", type_of(event), error)
                await self._fleet.system.clock.sleep(BRIMFUL_PAUSE_S)
            else:
                return
