"""A usage limit stops a whole credential on every agent, and not one attempt is counted."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for
from support.mock_clis import MOCK, agent_environment, claude, executable

from fleetlog.bus.client import Client
from fleetlog.bus.credentials import load_credential, pause, resume
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.events import (
    CredentialPaused,
    CredentialResumed,
    TaskClaimed,
    TaskReturned,
)
from fleetlog.schemas.specs import TaskSpec

TASKS = 20
COMMAND = TaskSpec(executor="command", handler="true", args=msgspec.Raw(b'{"argv":["true"]}'))


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def limited_claude(folder: Path, until: int) -> Path:
    """A claude whose allowance is used up before an instant, in seconds since 1970."""
    return executable(
        folder / "limited",
        f"""#!/bin/sh
left=$(({until} - $(date +%s)))
export MOCK_SCENARIO=ok
if [ "$1" != auth ] && [ $left -gt 0 ]; then
    export MOCK_SCENARIO=limit MOCK_DELAY=$left FLEETLOG_ATTEMPT=1
fi
exec "{sys.executable}" -SE "{MOCK}" "$@"
""",
    )


async def test_a_usage_limit_stops_the_whole_credential_and_counts_no_attempt(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    until = int(time.time()) + 6
    environ = agent_environment(tmp_path) | {
        "CLAUDE_CLI_PATH": str(limited_claude(tmp_path, until))
    }
    options = {"environ": environ, "workers": 2}
    async with (
        agent(server.target, fleet, host="one", **options),
        agent(server.target, fleet, host="two", **options),
        coordinator(server.target, fleet),
    ):
        tasks = [await client.submit(claude(f"task {n}")) for n in range(TASKS)]
        await wait_for(client.fleet, "CredentialPaused")
        other = await client.submit(COMMAND)
        assert (await other.result("20s")).state == "completed"
        assert time.time() < until, "a task that needs no credential had to wait"
        outcomes = await asyncio.gather(*(task.result("60s") for task in tasks))
    assert {outcome.state for outcome in outcomes} == {"completed"}
    events = [record.event for record in await history(client.fleet)]
    returned = [event for event in events if isinstance(event, TaskReturned)]
    # Those that ran when the first one met the limit, on each agent until it heard of it.
    assert 1 <= len(returned) <= 8
    assert {event.error_class for event in returned} == {"usage_limit"}
    assert sum(isinstance(event, TaskClaimed) for event in events) == TASKS + 1 + len(returned)
    assert sum(isinstance(event, CredentialPaused) for event in events) == 1
    assert sum(isinstance(event, CredentialResumed) for event in events) == 1
    assert [(await client.get(task.task_id)).task.failures for task in tasks] == [0] * TASKS


async def test_a_person_pauses_and_resumes_and_a_new_agent_knows(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    log, system = client.fleet.log, client.fleet.system
    wanted = CredentialPaused(
        id=system.new_id(), occurred_at=log.now(), error_class="paused", error="by hand"
    )
    await pause(log, "claude", wanted)
    async with (
        agent(server.target, fleet, environ=agent_environment(tmp_path)),
        coordinator(server.target, fleet),
    ):
        waiting = await client.submit(claude())
        free = await client.submit(claude(credential="second"))
        assert (await free.result("30s")).state == "completed"
        assert (await client.get(waiting.task_id)).task.status == "queued"
        event = CredentialResumed(id=system.new_id(), occurred_at=log.now())
        assert not (await resume(log, "claude", event)).is_paused(log.now())
        assert (await waiting.result("60s")).state == "completed"
    assert (await load_credential(log, "claude")).pause is None
