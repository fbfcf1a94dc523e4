"""A worker that comes back with the result of a lease it no longer holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from support.fleets import agent, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.core import Claim, Complete
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.rules import Decided, after, execute, load_task
from fleetlog.cli.refused_results import refused_line, refused_results
from fleetlog.cli.task_history import attempts_of
from fleetlog.schemas.events import TerminalEvent, WorkerRefused


async def take_over_and_complete(fleet: Fleet, task_id: str) -> int:
    """What another agent does that holds the first for dead; answers the sequence of the outcome."""
    task = await load_task(fleet.log, task_id)
    assert task.lease is not None
    claim = Claim(
        id=fleet.system.new_id(),
        offer=task.lease.offer,
        agent_id="other",
        worker_id="w1",
        host="elsewhere",
        over=task.lease.fence,
    )
    taken = await execute(fleet.log, claim, task)
    assert isinstance(taken, Decided)
    complete = Complete(id=fleet.system.new_id(), fence=taken.seq, result=msgspec.Raw(b'"theirs"'))
    ended = await execute(fleet.log, complete, after(taken, fleet.log))
    assert isinstance(ended, Decided)
    return ended.seq


async def test_a_result_without_its_lease_is_refused_and_shown_as_refused(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    async with open_fleet(server.target, fleet) as opened:
        async with agent(server.target, fleet) as stale:
            task = await Client(opened).submit(call("wait_for_file", path=str(tmp_path / "go")))
            (claim,) = await wait_for(opened, "TaskClaimed")
            await take_over_and_complete(opened, task.task_id)
            (tmp_path / "go").touch()
            (refused,) = await wait_for(opened, "WorkerRefused")
        log = await history(opened)
        outcome = await task.result("5s")
        attempts = attempts_of((await Client(opened).get(task.task_id)).events, task.task_id)
        listed = await refused_results(opened.log, task.task_id, attempts)
    assert outcome.result == "theirs"
    assert sum(isinstance(r.event, TerminalEvent) for r in log) == 1
    assert isinstance(refused.event, WorkerRefused)
    assert refused.subject is not None
    assert refused.subject.id == stale.agent_id
    (row,) = listed
    assert (row.attempt, row.fence, row.verb) == (1, claim.seq, "completed")
    assert (row.agent_id, row.refused_at) == (stale.agent_id, refused.stored_at)
    assert "completed of attempt 1, from " in refused_line(row)
    assert (refused.event.task_id, refused.event.fence, refused.event.attempt) == (
        task.task_id,
        claim.seq,
        1,
    )


async def test_an_attempt_that_lost_its_lease_is_ended(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    async with open_fleet(server.target, fleet) as opened, agent(server.target, fleet) as stale:
        task = await Client(opened).submit(call("nap", seconds=600))
        await wait_for(opened, "TaskClaimed")
        seq = await take_over_and_complete(opened, task.task_id)
        opened.hints.publish(task.task_id, seq, to=stale.agent_id)
        await wait_for(opened, "WorkerRefused")
        async with asyncio.timeout(10):
            await stale._attempts.wait_idle()
