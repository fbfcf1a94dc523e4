"""Queues for tasks that require something of their agent: made before the first such task is."""

from __future__ import annotations

from collections.abc import Iterable

from fleetlog.bus.errors import ConflictError
from fleetlog.bus.log import EventLog, entry
from fleetlog.bus.system import System
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import QueueDerived, TaskEvent, TaskQueued, verb_of
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject, guard


class DerivedQueues:
    """Says once for each set of requirements which agents are to serve it. Safe to repeat by anyone.

    Names that only look alike are not told apart here: the digest in them does that.

    Args:
        log: where it is said.
        system: for ids.
    """

    def __init__(self, log: EventLog, system: System) -> None:
        self._log = log
        self._system = system
        self._known: set[str] = set()

    async def ensure(self, specs: Iterable[TaskSpec]) -> None:
        """When this returns, the log says what the queue of each task stands for that requires something."""
        wanted = {spec.offered_on: spec for spec in specs if spec.requires}
        for name in wanted.keys() - self._known:
            await self._ensure(name, wanted[name])
            self._known.add(name)

    async def ensure_for(self, event: TaskEvent) -> None:
        """The same for an event that offers a task, to one host or to all."""
        if isinstance(event, TaskQueued):
            await self.ensure((event.spec.on_host(event.host) if event.host else event.spec,))

    def forget(self) -> None:
        """Nothing is known any more: the server may have lost what was said last."""
        self._known.clear()

    async def _ensure(self, name: str, spec: TaskSpec) -> None:
        while True:
            said = await self._log.read_thing(guard(self._log.fleet, "queue", name))
            if any(isinstance(open_stored(each).event, QueueDerived) for each in said):
                return
            version = said[-1].seq if said else 0
            event = QueueDerived(
                id=self._system.new_id(),
                occurred_at=self._log.now(),
                queue=spec.queue,
                requires=spec.requires,
            )
            subject = Subject(self._log.fleet, "queue", name, verb_of(event))
            try:
                # Not at 0: someone may have paused it by its name before.
                await self._log.append(entry(subject, version, event))
            except ConflictError:
                continue
            return
