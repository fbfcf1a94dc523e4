"""What is said of queues themselves: who reads it, and who pauses them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from fleetlog.bus.core.queues import QueueState, evolve_queue
from fleetlog.bus.errors import ConflictError, LogRewound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.log import EventLog, entry
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import QueuePaused, QueueResumed, verb_of
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.requirements import satisfies
from fleetlog.schemas.subjects import Subject, guard, queues


class Queues:
    """What is known of all queues of which something was ever said."""

    def __init__(self) -> None:
        self.states: dict[str, QueueState] = {}
        self.seq = 0
        """The last event of a queue that was taken."""

    @property
    def paused(self) -> frozenset[str]:
        """The names of those that are paused; of a queue that is, all that are derived from it too."""
        own = {name for name, state in self.states.items() if state.is_paused}
        return frozenset(own.union(n for n, state in self.states.items() if state.base in own))

    def derived_for(self, queues: Collection[str], labels: Mapping[str, str]) -> list[QueueState]:
        """The queues that who serves `queues` and has these labels serves besides."""
        return [
            state
            for state in self.states.values()
            if state.base in queues
            and state.queue not in queues
            and satisfies(labels, state.requires)
        ]

    def forget(self) -> None:
        """Nothing is known any more."""
        self.states.clear()
        self.seq = 0

    def take(self, page: list[Stored]) -> None:
        """Takes events of queues, in order."""
        for stored in page:
            record = open_stored(stored)
            self.seq = max(self.seq, stored.seq)
            if record.subject is not None and record.subject.kind == "queue":
                name = record.subject.id
                state = self.states.get(name, QueueState(queue=name))
                self.states[name] = evolve_queue(state, record)


async def read_queues(log: EventLog) -> Queues:
    """The queues as the log tells them now."""
    found = Queues()
    async for page in log.read(subjects=queues(log.fleet)):
        found.take(page)
    return found


async def follow_queues(log: EventLog, known: Queues, changed: Callable[[], None]) -> None:
    """Keeps `known` up, and says when it may have changed; for ever."""
    while True:
        try:
            async for page in log.follow(after=known.seq, subjects=queues(log.fleet)):
                known.take(page)
                changed()
        except LogRewound:
            known.forget()
            changed()


async def queue_state(log: EventLog, queue: str) -> QueueState:
    """One queue as the log tells it now."""
    state = QueueState(queue=queue)
    for stored in await log.read_thing(guard(log.fleet, "queue", queue)):
        state = evolve_queue(state, open_stored(stored))
    return state


async def set_paused(
    fleet: Fleet, queue: str, *, is_paused: bool, actor: str | None, reason: str | None
) -> tuple[QueueState, bool]:
    """Pauses or resumes a queue; answers how it stands, and whether this call changed it.

    A queue that stands as wanted is left as it is, with its actor and reason. Safe to repeat.

    Raises:
        InvalidInput: no queue can have this name.
    """
    check_id(queue, "queue")
    kind = QueuePaused if is_paused else QueueResumed
    event = kind(id=fleet.system.new_id(), occurred_at=fleet.log.now(), actor=actor, reason=reason)
    subject = Subject(fleet.name, "queue", queue, verb_of(event))
    while True:
        state = await queue_state(fleet.log, queue)
        if state.is_paused is is_paused:
            return state, False
        try:
            await fleet.log.append(entry(subject, state.version, event))
        except ConflictError:
            continue
        return await queue_state(fleet.log, queue), True
