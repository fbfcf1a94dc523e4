"""Holders of a limit that are killed: it is never exceeded, and no place of it is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import AsyncExitStack, suppress

import msgspec
from support.fleet_process import FleetProcess, process_of
from support.fleets import coordinator, history
from support.judging import check_fleet
from support.limit_reading import check_limits, most_at_once

from fleetlog.bus.bounds import set_limit
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.events import AttemptEnd, LimitSet, TaskClaimed, WorkerSpawned
from fleetlog.schemas.specs import Backoff

KILLS = 20 if os.environ.get("FLEETLOG_LONG") else 4
AGENT_EVERY = 4
"""So often it is the agent that is killed with its workers, and else a worker."""
PLACES = 3


async def test_kills_of_holders_neither_exceed_a_limit_nor_use_it_up(
    server: EmbeddedServer, fleet: str
) -> None:
    chance = random.Random(7)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client.connect(target=server.target, fleet=fleet))
        for _ in range(2):
            await stack.enter_async_context(coordinator(server.target, fleet))
        agents: dict[str, FleetProcess] = {}

        async def start_agent() -> None:
            starting = process_of("agent", server.target, fleet, workers=3)
            started = await stack.enter_async_context(starting)
            agents[started.role_id] = started

        await start_agent()
        await start_agent()
        log = client.fleet.log
        event = LimitSet(id="set", occurred_at=log.now(), key="k", concurrency=PLACES)
        await set_limit(client.fleet, event)
        naps = msgspec.structs.replace(
            call("nap", seconds=0.4), limits=("k",), backoff=Backoff(first_ms=1), max_attempts=1000
        )
        submitted = await client.submit_many([naps] * (10 * KILLS))
        number = 0
        while await _hit_count(client.fleet) < KILLS:
            number += 1
            claim, pid = await _a_holder(client.fleet, chance, set(agents))
            if number % AGENT_EVERY:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            else:
                await agents.pop(claim.agent_id).kill()
                await start_agent()
        outcomes = await asyncio.gather(*(each.result("120s") for each in submitted))
        # A task that happens to be hit with its agent three times fails, as it should.
        ended = Counter(each.error_class or each.state for each in outcomes)
        assert set(ended) <= {"completed", "lost"}, ended
        assert ended["completed"] >= len(submitted) - KILLS // AGENT_EVERY
        records = await history(client.fleet)
        check_limits(records)
        assert most_at_once(records, "k") == (PLACES, 0)
        # All places are there still.
        last = await client.submit_many([naps] * (2 * PLACES))
        await asyncio.gather(*(each.result("30s") for each in last))
        later = (await history(client.fleet))[len(records) :]
        await check_fleet(client.fleet, is_quiet=True)
        assert most_at_once(later, "k") == (PLACES, 0)
    ends = Counter(type(r.event).__name__ for r in records if isinstance(r.event, AttemptEnd))
    print(
        f"\n{KILLS} kills of holders of a limit of {PLACES}, {len(submitted)} tasks: {dict(ends)}"
    )


async def _hit_count(fleet: Fleet) -> int:
    """How many kills ended an attempt; others came just after its end."""
    return len(await history(fleet, types=("TaskRetried", "TaskReturned")))


async def _a_holder(
    fleet: Fleet, chance: random.Random, agents: set[str]
) -> tuple[TaskClaimed, int]:
    """A claim that is live in one of these agents, and the process of its worker."""
    while True:
        live: dict[str, TaskClaimed] = {}
        pids: dict[tuple[str, str], int] = {}
        for record in await history(fleet):
            subject, event = record.subject, record.event
            assert subject is not None
            if isinstance(event, TaskClaimed):
                live[subject.id] = event
            elif isinstance(event, AttemptEnd):
                live.pop(subject.id, None)
            elif isinstance(event, WorkerSpawned) and subject.worker_id is not None:
                pids[subject.id, subject.worker_id] = event.pid
        if found := [each for each in live.values() if each.agent_id in agents]:
            claim = chance.choice(found)
            return claim, pids[claim.agent_id, claim.worker_id]
