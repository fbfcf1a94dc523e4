"""What an agent's events make of it."""

from __future__ import annotations

from typing import Any

import pytest

from fleetlog.bus.core.agent import AgentState, evolve_agent
from fleetlog.schemas.events import (
    AgentDraining,
    AgentLost,
    AgentStarted,
    AgentStopped,
    AnyEvent,
    WorkerSpawned,
)
from tests.given import T0, record

STAMP: dict[str, Any] = {"id": "e", "occurred_at": T0}
STARTED = AgentStarted(
    host="h", pid=1, version="1", queues=("default",), workers=1, concurrency=1, **STAMP
)
DRAINING = AgentDraining(**STAMP)
STOPPED = AgentStopped(**STAMP)
LOST = AgentLost(silent_ms=3_100, **STAMP)
FOREIGN = WorkerSpawned(host="h", pid=2, **STAMP)

ROWS: dict[str, tuple[list[AnyEvent], str]] = {
    "one that started runs": ([STARTED], "running"),
    "one that drains": ([STARTED, DRAINING], "draining"),
    "one that stopped": ([STARTED, DRAINING, STOPPED], "stopped"),
    "one that drains does not start again": ([STARTED, DRAINING, STARTED], "draining"),
    "one that was lost": ([STARTED, LOST], "lost"),
    "lost is lost, whatever it says later": ([STARTED, LOST, DRAINING, STOPPED], "lost"),
    "stopped is stopped": ([STARTED, STOPPED, LOST], "stopped"),
    "what is no agent's event changes nothing": ([STARTED, FOREIGN], "running"),
}


@pytest.mark.parametrize(("events", "status"), ROWS.values(), ids=ROWS)
def test_fold(events: list[AnyEvent], status: str) -> None:
    agent = AgentState(id="a1")
    for seq, event in enumerate(events, 1):
        agent = evolve_agent(agent, record(seq, event))
    assert agent.status == status
    assert agent.version == len(events)
    assert agent.is_ended == (status in ("stopped", "lost"))
    assert (agent.end_id is not None) == agent.is_ended
    assert evolve_agent(agent, record(1, STOPPED)) is agent
