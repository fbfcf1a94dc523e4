"""An agent as its events tell it."""

from __future__ import annotations

from typing import Literal

import msgspec

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import AgentDraining, AgentLost, AgentStarted, AgentStopped

AgentStatus = Literal["absent", "running", "draining", "stopped", "lost"]
"""The last two are final."""


class AgentState(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation after `version`. Made by `evolve_agent` alone."""

    id: str
    """The incarnation."""
    status: AgentStatus = "absent"
    """Where it is in its life."""
    version: int = 0
    """Log sequence of its last event: what the next append must state."""
    host: str = ""
    """Where it runs."""
    queues: tuple[str, ...] = ()
    """What it serves."""
    labels: dict[str, str] = {}
    """What it offers."""
    end_id: str | None = None
    """The id of the event that ended it."""
    slots: int = 0
    """How many tasks it can run at once."""
    reserve_high: int = 0
    """So many of them are of priority high alone."""

    @property
    def is_ended(self) -> bool:
        """Whatever it held, it holds no more."""
        return self.status in ("stopped", "lost")


def evolve_agent(agent: AgentState, record: Recorded) -> AgentState:
    """The agent after `record`. What ended stays ended, whatever it says later: an id is one incarnation."""
    if record.seq <= agent.version:
        return agent
    agent = msgspec.structs.replace(agent, version=record.seq)
    if agent.is_ended:
        return agent
    match event := record.event:
        case AgentStarted() if agent.status == "absent":
            return msgspec.structs.replace(
                agent,
                status="running",
                host=event.host,
                queues=event.queues,
                labels=event.labels,
                slots=max(event.workers, event.workers_max or 0) * event.concurrency,
                reserve_high=event.reserve_high,
            )
        case AgentDraining():
            return msgspec.structs.replace(agent, status="draining")
        case AgentStopped():
            return msgspec.structs.replace(agent, status="stopped", end_id=event.id)
        case AgentLost():
            return msgspec.structs.replace(agent, status="lost", end_id=event.id)
        case _:
            return agent
