"""The server dies under submits and completions, or is away for long."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

from support.fleets import agent, coordinator, history, wait_for
from support.judging import check_fleet

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.handles import Submitted
from fleetlog.schemas.events import TerminalEvent

IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
KILL_ROUNDS = 20 if IS_LONG else 3


async def test_every_acknowledged_submit_survives_kills_of_the_server_and_completes_once(
    fresh_server: EmbeddedServer, fleet: str
) -> None:
    accepted: list[Submitted] = []
    enough = asyncio.Event()

    async def submit_on(client: Client) -> None:
        while not enough.is_set():
            batch = await client.submit_many([call("noop")] * 20)
            accepted.extend(batch)
            await batch[-1].result()

    async with (
        open_fleet(fresh_server.target, fleet) as opened,
        agent(fresh_server.target, fleet, workers=2, concurrency=16),
        coordinator(fresh_server.target, fleet),
    ):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(submit_on(Client(opened)))
            for round_number in range(KILL_ROUNDS):
                before = len(accepted)
                await wait_for(opened, "TaskCompleted", 100 * (round_number + 1), timeout_s=60)
                assert len(accepted) > before or round_number == 0
                fresh_server.kill()
                await fresh_server.wait()
                await fresh_server.restart()
            enough.set()
        ids = {each.task_id for each in accepted}
        await wait_for(opened, "TaskCompleted", len(ids), timeout_s=120)
        log = await history(opened)
        await check_fleet(opened, is_quiet=False)
    ends = Counter(r.subject.id for r in log if r.subject and isinstance(r.event, TerminalEvent))
    queued = {r.subject.id for r in log if r.subject and type(r.event).__name__ == "TaskQueued"}
    assert ids <= queued
    assert all(ends[task_id] == 1 for task_id in queued)
    assert len(ids) == len(accepted)


async def test_a_server_away_for_longer_than_the_ack_wait_starts_no_live_task_twice(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    """After the restart everything unacknowledged is delivered again at once, to anyone, and once more after
    each refusal; the stream of the holders' beats lived in memory and is gone."""
    away_s, ack_wait_s = 3.0, 2.0
    marks = tmp_path / "marks"
    marks.mkdir()
    async with (
        open_fleet(fresh_server.target, fleet) as opened,
        agent(fresh_server.target, fleet, ack_wait_s=ack_wait_s, workers=5),
        agent(fresh_server.target, fleet, ack_wait_s=ack_wait_s, workers=5),
    ):
        client = Client(opened)
        tasks = await client.submit_many([call("mark", folder=str(marks), seconds=14.0)] * 5)
        await wait_for(opened, "TaskClaimed", 5)
        fresh_server.kill()
        await fresh_server.wait()
        await asyncio.sleep(away_s)  # the absence is what is tested
        await fresh_server.restart()
        outcomes = [await task.result("30s") for task in tasks]
    assert [(o.state, o.attempts) for o in outcomes] == [("completed", 1)] * 5
    executions = await asyncio.to_thread(os.listdir, marks)
    assert len(executions) == 5
    assert all(".1." in name for name in executions)
