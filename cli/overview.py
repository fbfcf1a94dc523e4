"""What a fleet does at one moment, put together from the log, the beats and the SQL views."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from fleetlog.agents.strains import strains_text
from fleetlog.bus.client import Client
from fleetlog.bus.core.credential import Credential
from fleetlog.bus.core.queues import QueueState
from fleetlog.bus.credentials import load_credentials
from fleetlog.bus.embedded.runtime import resolve_target
from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.queues import read_queues
from fleetlog.bus.settings import Settings
from fleetlog.cli.asking import ask_rows
from fleetlog.cli.coordinator_seen import CoordinatorSeen, look_at_coordinator
from fleetlog.schemas.beats import Beat, StoredBeat, WorkerBeat
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import (
    AgentLost,
    AgentRecovered,
    AgentStarted,
    AgentStopped,
    AgentStrained,
    Strain,
)
from fleetlog.schemas.subjects import Subject, format_subject, guard
from fleetlog.schemas.subjects import agents as agents_filter

SILENT_S: Final = 3.0
"""An agent beats once a second; one that was not heard for so long may be gone."""
LOST_SHOWN: Final = timedelta(minutes=10)
"""So long after its loss an agent is shown as lost."""
LISTEN_S: Final = 1.5
"""Long enough to hear every agent that beats."""
_QUESTION: Final = """
SELECT
    (
        SELECT coalesce(list(depth), []) FROM (
            FROM queue_depth AS depth
            ORDER BY queue, CASE priority WHEN 'high' THEN 0 WHEN 'normal' THEN 1 ELSE 2 END
        ) AS depth
    ) AS queues,
    (SELECT count(*) FROM barriers WHERE state = 'open') AS open_barriers,
    (SELECT count(*) FROM tasks WHERE question IS NOT NULL) AS needs_input,
    {
        'completed': count(*) FILTER (WHERE state = 'completed'),
        'failed': count(*) FILTER (WHERE state = 'failed'),
        'cancelled': count(*) FILTER (WHERE state = 'cancelled'),
        'expired': count(*) FILTER (WHERE state = 'expired')
    } AS last_minute
FROM tasks
WHERE settled_at > now() - INTERVAL 1 MINUTE
"""


class AgentSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that has started and has not ended."""

    agent_id: str
    """The incarnation."""
    host: str
    """Where it runs."""
    state: Literal["running", "strained", "draining", "silent"]
    """What its last beat said; `strained` when it takes nothing for its host's sake, `silent` when that beat
    was too long ago."""
    queues: tuple[str, ...]
    """What it serves."""
    heard_at: datetime | None
    """When the server received its last beat; None when it keeps none."""
    workers: tuple[WorkerBeat, ...]
    """Its worker processes, and what they run."""
    slots: int = 0
    """How many attempts it runs at once."""
    version: str = ""
    """Of fleetlog."""
    strains: tuple[Strain, ...] = ()
    """What its host has too little of."""
    workers_min: int = 0
    """How many workers it keeps; the least, if there is a most."""
    workers_max: int | None = None
    """The most workers, when much waits; None: always `workers_min`."""
    labels: dict[str, str] = {}
    """What it offers, for tasks that require it."""
    reserve_high: int = 0
    """So many of its slots are for high tasks alone."""

    @property
    def busy(self) -> int:
        """How many attempts it runs."""
        return sum(worker.running for worker in self.workers)


class LostAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was lost a short while ago; what it ran was given back."""

    agent_id: str
    """The incarnation."""
    host: str
    """Where it ran."""
    lost_at: datetime
    """When that was recorded."""
    silent_s: float
    """How long nothing had been heard of it."""


class ProjectorSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The projector, as its answer tells."""

    seq: int
    """The SQL views hold the log up to this event."""
    lag: int
    """How many events the log had more."""


class PausedCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that is paused."""

    credential: str
    """Its name."""
    until: datetime | None
    """When it is tried again; None: when someone resumes it."""
    error_class: str
    """Why, for programs."""
    error: str
    """Why, for people."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet at one moment."""

    fleet: str
    """Its name."""
    url: str
    """Where the bus is, without passwords."""
    durability: str
    """`always`, `relaxed` or `unattested`."""
    is_ready: bool
    """It can take work and run it, and answer questions about it."""
    lack: str | None
    """What is missing for that."""
    log_end: int
    """The log's last sequence."""
    agents: tuple[AgentSeen, ...]
    """Who runs tasks."""
    projector: ProjectorSeen | None
    """None when none answers."""
    queues: list[dict[str, Any]] | None
    """Unsettled tasks per queue and priority, by state; None without a projector."""
    paused: tuple[QueueState, ...]
    """The queues of which nobody takes tasks."""
    last_minute: dict[str, Any] | None
    """Outcomes of the last minute; None without a projector."""
    open_barriers: int | None = None
    """Fan-outs that wait for their members; None without a projector."""
    needs_input: int | None = None
    """Tasks that wait for a person's answer; None without a projector."""
    credentials: tuple[PausedCredential, ...] = ()
    """Which can't be used now: tasks that need them wait."""
    coordinator: CoordinatorSeen | None = None
    """Who does what time brings; None when nobody does."""
    lost: tuple[LostAgent, ...] = ()
    """The agents that were lost in the last minutes."""


async def take_overview(client: Client, settings: Settings) -> Overview:
    """Looks at everything at once.

    Raises:
        Unavailable: the server does not answer.
    """
    fleet = client.fleet
    (
        agents,
        coordinator,
        (projector, answer),
        log_end,
        known,
        paused,
    ) = await asyncio.gather(
        look_at_agents(fleet),
        look_at_coordinator(fleet),
        _ask_projector(fleet),
        fleet.log.end(),
        load_credentials(fleet.log),
        look_at_pauses(fleet),
    )
    lack = _lack(agents, projector)
    return Overview(
        fleet=fleet.name,
        url=without_password(resolve_target(settings).url),
        durability=fleet.durability,
        is_ready=lack is None,
        lack=lack,
        log_end=log_end,
        agents=agents,
        projector=projector,
        queues=answer.get("queues"),
        paused=paused,
        last_minute=answer.get("last_minute"),
        open_barriers=answer.get("open_barriers"),
        needs_input=answer.get("needs_input"),
        credentials=tuple(_paused(known.values(), fleet.log.now())),
        coordinator=coordinator,
        lost=await look_at_lost(fleet),
    )


def _paused(known: Iterable[Credential], now: datetime) -> Iterator[PausedCredential]:
    for credential in known:
        if credential.pause is not None and credential.is_paused(now):
            yield PausedCredential(
                credential=credential.name,
                until=credential.pause.until,
                error_class=credential.pause.error_class,
                error=credential.pause.error,
            )


def without_password(url: str) -> str:
    """The addresses without what stands before their `@`."""
    parts = []
    for one in url.split(","):
        scheme, found, rest = one.rpartition("://")
        parts.append(f"{scheme}{found}{rest.rpartition('@')[2]}")
    return ",".join(parts)


async def look_at_pauses(fleet: Fleet) -> tuple[QueueState, ...]:
    """The queues that are paused, by name."""
    states = (await read_queues(fleet.log)).states
    return tuple(states[name] for name in sorted(states) if states[name].is_paused)


async def look_at_lost(fleet: Fleet) -> tuple[LostAgent, ...]:
    """The agents that were lost in the last minutes."""
    since = fleet.log.now() - LOST_SHOWN
    found: list[LostAgent] = []
    async for page in fleet.log.read(subjects=agents_filter(fleet.name, "lost")):
        for record in map(open_stored, page):
            if record.subject is None or not isinstance(record.event, AgentLost):
                continue
            if record.stored_at < since:
                continue
            subject = Subject(fleet.name, "agent", record.subject.id, "started")
            first = await fleet.log.last(format_subject(subject))
            started = open_stored(first).event if first is not None else None
            found.append(
                LostAgent(
                    agent_id=record.subject.id,
                    host=started.host if isinstance(started, AgentStarted) else "?",
                    lost_at=record.stored_at,
                    silent_s=record.event.silent_ms / 1000,
                )
            )
    return tuple(found)


async def look_at_agents(fleet: Fleet) -> tuple[AgentSeen, ...]:
    """The agents that have started and not ended."""
    alive: dict[str, AgentStarted] = {}
    strains: dict[str, tuple[Strain, ...]] = {}
    async for page in fleet.log.read(subjects=guard(fleet.name, "agent", "*")):
        for record in map(open_stored, page):
            if record.subject is None:
                continue
            match record.event:
                case AgentStarted():
                    alive[record.subject.id] = record.event
                case AgentStopped() | AgentLost():
                    alive.pop(record.subject.id, None)
                case AgentStrained() | AgentRecovered() as event:
                    found = event.strains if isinstance(event, AgentStrained) else ()
                    strains[record.subject.id] = found
    heard = {agent_id: await fleet.beats.last(agent_id) for agent_id in alive}
    if missing := {agent_id for agent_id, beat in heard.items() if beat is None}:
        heard |= await _listen(fleet, missing)
    return tuple(
        _seen(fleet, started, agent_id, heard[agent_id], strains.get(agent_id, ()))
        for agent_id, started in alive.items()
    )


async def _listen(fleet: Fleet, missing: set[str]) -> dict[str, StoredBeat]:
    """The next beats of agents of which the server keeps none: its memory goes with it when it restarts."""
    heard: dict[str, StoredBeat] = {}
    try:
        async with asyncio.timeout(LISTEN_S):
            async for page in fleet.beats.follow():
                heard |= {one.beat.agent_id: one for one in page if one.beat.agent_id in missing}
                if len(heard) == len(missing):
                    break
    except TimeoutError:
        pass
    return heard


def _seen(
    fleet: Fleet,
    started: AgentStarted,
    agent_id: str,
    heard: StoredBeat | None,
    strains: tuple[Strain, ...],
) -> AgentSeen:
    is_silent = heard is None or (fleet.log.now() - heard.stored_at).total_seconds() > SILENT_S
    return AgentSeen(
        agent_id=agent_id,
        host=started.host,
        state="silent" if heard is None or is_silent else _state(heard.beat, strains),
        queues=started.queues,
        heard_at=heard.stored_at if heard is not None else None,
        workers=heard.beat.workers if heard is not None else (),
        slots=_slots(started, heard),
        workers_min=started.workers,
        workers_max=started.workers_max,
        version=started.version,
        strains=strains,
        labels=started.labels,
        reserve_high=started.reserve_high,
    )


def _slots(started: AgentStarted, heard: StoredBeat | None) -> int:
    workers = started.workers
    if started.workers_max is not None and heard is not None:
        workers = max(workers, len(heard.beat.workers))
    return workers * started.concurrency


def _state(beat: Beat, strains: tuple[Strain, ...]) -> Literal["running", "strained", "draining"]:
    return "strained" if strains and beat.state == "running" else beat.state


async def _ask_projector(fleet: Fleet) -> tuple[ProjectorSeen | None, dict[str, Any]]:
    """The projector and its row of answers; None and an empty one where none answers."""
    end = await fleet.log.end()
    try:
        header, [row] = await ask_rows(fleet.services, _QUESTION)
    except (Unavailable, ProjectionError):
        return None, {}
    return ProjectorSeen(seq=header.seq, lag=max(0, end - header.seq)), row


def _lack(agents: tuple[AgentSeen, ...], projector: ProjectorSeen | None) -> str | None:
    strained = [agent for agent in agents if agent.state == "strained"]
    if strained and not any(agent.state == "running" for agent in agents):
        return (
            f"every agent rests: {strained[0].host} is short of {strains_text(strained[0].strains)}"
        )
    if not any(agent.state == "running" for agent in agents):
        return "no agent runs: start one with `fleetlog agent`"
    if projector is None:
        return "no projector answers: start one with `fleetlog projector`"
    return None
