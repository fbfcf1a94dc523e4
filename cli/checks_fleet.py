"""Looks at the roles of a fleet, and at what its history says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fleetlog.agents.strains import strains_text
from fleetlog.bus.coordinator_state import ask_coordinator
from fleetlog.bus.core.queues import QueueState
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.jetstream.lanes import LaneSeen
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.checks import Check, error, ok, warning
from fleetlog.cli.coordinator_seen import look_at_coordinator
from fleetlog.cli.overview import AgentSeen
from fleetlog.cli.pauses import describe_pause
from fleetlog.schemas.requirements import requirements_text
from fleetlog.schemas.subjects import stream_names

COORDINATOR_TIMEOUT_S: Final = 5.0
LAG_MAX: Final = 10_000
STUCK_S: Final = 60
"""An offer is taken within moments where a worker is free; after so long it is worth a look."""
_QUESTION: Final = f"""
SELECT
    (SELECT {{'count': count(*), 'last': max(seq)}} FROM events WHERE problem IS NOT NULL) AS unreadable,
    (SELECT {{'count': count(*), 'last': max(seq)}} FROM events WHERE is_violation) AS violations,
    (
        SELECT coalesce(list(lane), []) FROM (
            SELECT
                queue, priority, requires, offered_on, queued, claimed,
                coalesce(oldest_queued_at < now() - INTERVAL {STUCK_S} SECOND, false) AS is_old
            FROM queue_requirements
            WHERE queued > 0
        ) AS lane
    ) AS lanes
"""  # noqa: S608 - a number of our own


def check_agents(agents: Sequence[AgentSeen]) -> Check:
    """Who runs tasks."""
    silent = [agent for agent in agents if agent.state == "silent"]
    alive = len(agents) - len(silent)
    workers = sum(len(agent.workers) for agent in agents if agent.state != "silent")
    found = f"{alive} alive with {workers} workers"
    if silent:
        names = ", ".join(f"{agent.agent_id} on {agent.host}" for agent in silent[:5])
        return warning(
            "agents",
            f"{found}, {len(silent)} silent: {names}",
            "see whether these hosts are up; what their agents held goes to others when its lease ends",
        )
    if strained := [agent for agent in agents if agent.state == "strained"]:
        short = "; ".join(
            f"{agent.host} of {strains_text(agent.strains)}" for agent in strained[:5]
        )
        return warning(
            "agents",
            f"{found}, {len(strained)} take nothing new as they are short: {short}",
            "make room there, or give these agents lower floors; they go on by themselves",
        )
    if not alive:
        return warning("agents", "none runs", "start one with `fleetlog agent`; tasks wait for it")
    return ok("agents", found)


def check_pauses(paused: Sequence[QueueState]) -> Check:
    """Which queues someone has paused, and perhaps forgotten."""
    if not paused:
        return ok("pauses", "no queue is paused")
    found = "; ".join(f"{queue.queue} is {describe_pause(queue)}" for queue in paused[:5])
    names = " ".join(queue.queue for queue in paused)
    return warning("pauses", found, f"`fleetlog queue resume {names}` when they may go on")


async def check_coordinator(fleet: Fleet) -> Check:
    """Who does what time brings."""
    try:
        state = await ask_coordinator(fleet.services, COORDINATOR_TIMEOUT_S)
    except Unavailable as missing:
        return warning(
            "coordinator",
            f"none answers ({missing})",
            "start one with `fleetlog coordinator`; without it no delayed, retried or late task moves, and"
            " tasks of lost agents only after a while",
        )
    if not state.is_ready:
        return ok("coordinator", "it still reads the log")
    active = await look_at_coordinator(fleet)
    found = f"{state.tasks} tasks are not settled, {state.agents} agents are listened to"
    if active is None:
        return warning(
            "coordinator",
            f"{found}, and none is active",
            "ask again: one takes over within seconds; if none does, see what they print",
        )
    return ok("coordinator", f"{active.coordinator_id} on {active.host} is active, {found}")


async def check_history(fleet: Fleet, lanes: Sequence[LaneSeen]) -> list[Check]:
    """What the SQL views say."""
    end = await fleet.log.end()
    try:
        header, [row] = await ask_rows(fleet.services, _QUESTION)
    except (Unavailable, ProjectionError) as missing:
        advice = (
            "start one with `fleetlog projector`; SQL and what rests on it is not known without"
        )
        return [warning("projector", str(missing), advice)]
    return [
        _projector(max(0, end - header.seq), header.seq),
        _unreadable(row["unreadable"]),
        _violations(row["violations"]),
        _lanes(stream_names(fleet.name)[0], lanes, row["lanes"]),
    ]


def _projector(lag: int, seq: int) -> Check:
    found = f"{lag} events behind the log, at {seq}"
    if lag <= LAG_MAX:
        return ok("projector", found)
    return warning("projector", found, "wait, or see what it says; it catches up by itself")


def _unreadable(events: dict[str, Any]) -> Check:
    if not events["count"]:
        return ok("events", "all can be read")
    return warning(
        "events",
        f"{events['count']} can't be read by this version, the last is {events['last']}",
        'a newer fleetlog or another program wrote them; see `fleetlog sql "SELECT seq, subject, problem FROM'
        ' events WHERE problem IS NOT NULL"`, and upgrade',
    )


def _violations(events: dict[str, Any]) -> Check:
    if not events["count"]:
        return ok("rules", "every event was allowed by its task's state")
    return error(
        "rules",
        f"{events['count']} events were not allowed by their task's state, the last is {events['last']}",
        'they changed nothing, but a writer breaks the rules; see `fleetlog sql "FROM events WHERE'
        ' is_violation"`, and find who wrote them',
    )


def _lanes(stream: str, lanes: Sequence[LaneSeen], waiting: Sequence[dict[str, Any]]) -> Check:
    """Whether what is queued is also on offer: each queued or running task has its message at the consumer."""
    known = {(lane.queue, lane.priority): lane for lane in lanes}
    unserved, stuck, commands = [], [], []
    for row in waiting:
        lane = known.get((row["offered_on"], row["priority"]))
        name = f"{row['queued']} in {row['queue']} ({row['priority']})"
        if row["requires"]:
            name += f" that require {requirements_text(row['requires'])}"
        if lane is None:
            unserved.append(name)
        elif row["is_old"] and row["queued"] + row["claimed"] > lane.pending + lane.in_hand:
            stuck.append(name)
            commands.append(f"`nats consumer rm {stream} {lane.consumer}`")
    if stuck:
        return error(
            "queues",
            f"queued for over {STUCK_S} s and not on offer: {', '.join(stuck)}",
            f"remove the consumer with {', '.join(commands)}: agents make it anew, from the first of these on",
        )
    if unserved:
        return warning(
            "queues",
            f"no agent has ever served: {', '.join(unserved)}",
            "start one with `fleetlog agent --queue QUEUE`, with --label for what they require, or cancel them",
        )
    pending, in_hand = sum(lane.pending for lane in lanes), sum(lane.in_hand for lane in lanes)
    return ok("queues", f"{pending} on offer, {in_hand} taken, in {len(lanes)} lanes")
