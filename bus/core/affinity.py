"""Where the tasks of one affinity key last ran, so that the next one goes there too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from fleetlog.bus.core.agent import AgentState
from fleetlog.bus.core.commands import Queue
from fleetlog.bus.core.task import Task
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import AttemptEnd
from fleetlog.schemas.requirements import satisfies

KEYS_MAX: Final = 10_000
"""So many keys are remembered, those that were used last."""


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a key's tasks last ran."""

    key: str
    """The tasks' `affinity`."""
    host: str
    """Where the last claim of one was made."""
    session_id: str | None = None
    """The last session of an agent CLI that such a task left there."""
    executor: str | None = None
    """Whose session."""


class Affinities:
    """The fold of claims and ends of attempts; nothing relies on it but where a task waits first."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, Place] = OrderedDict()

    def restore(self, places: Iterable[Place]) -> None:
        """Begins with what `packed` gave."""
        self._places = OrderedDict((place.key, place) for place in places)

    def packed(self) -> list[Place]:
        """All of it, those that were used last at the end."""
        return list(self._places.values())

    def take_task(self, before: Task, task: Task, record: Recorded) -> None:
        """Takes what an event made of a task."""
        key = task.spec.affinity if task.spec is not None else None
        if key is None:
            return
        if task.lease is not None and task.lease is not before.lease:
            self._note_claim(key, task.lease.host)
        elif before.lease is not None and task.lease is None:
            self._note_end(key, before, record)

    def placed(self, task: Task, command: Queue, agents: Iterable[AgentState]) -> Queue:
        """The command, with the host and the session that the task's key has.

        Of a task without a key, one that was offered on a host already, or where no running agent of that host
        could take it, the command is as it was: any agent is offered the task.
        """
        spec = task.spec
        if spec is None or spec.affinity is None or task.status == "queued":
            return command
        place = self._places.get(spec.affinity)
        if place is None or not any(_can_take(agent, place, task) for agent in agents):
            return command
        is_same = place.executor == spec.executor
        return msgspec.structs.replace(
            command, host=place.host, session_id=place.session_id if is_same else None
        )

    def _note_claim(self, key: str, host: str) -> None:
        place = self._places.pop(key, None)
        if place is None or place.host != host:
            place = Place(key=key, host=host)
        self._places[key] = place
        if len(self._places) > KEYS_MAX:
            self._places.popitem(last=False)

    def _note_end(self, key: str, before: Task, record: Recorded) -> None:
        place, event = self._places.get(key), record.event
        assert before.lease is not None
        assert before.spec is not None
        if place is None or place.host != before.lease.host or not isinstance(event, AttemptEnd):
            return
        if event.session_id is not None:
            self._places[key] = msgspec.structs.replace(
                place, session_id=event.session_id, executor=before.spec.executor
            )


def _can_take(agent: AgentState, place: Place, task: Task) -> bool:
    assert task.spec is not None
    return (
        agent.status == "running"
        and agent.host == place.host
        and task.spec.queue in agent.queues
        and satisfies(agent.labels, task.spec.requires)
    )
