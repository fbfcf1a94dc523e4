"""A schedule makes one task for each instant while its coordinators are killed in turn."""

from __future__ import annotations

import asyncio
import json
import os
import random
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support.fleet_process import FleetProcess, process_of
from support.fleets import history, wait_for
from support.judging import check_fleet
from support.schedules import made, set_quickly

from fleetlog.bus.core.schedule import instant_of, task_id_of
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.schedules import load_schedule
from fleetlog.projections.projector import Projector
from fleetlog.projections.query import SqlRequest, query

IS_LONG = bool(os.environ.get("FLEETLOG_LONG"))
INSTANTS = 200 if IS_LONG else 50
EVERY_MS = 300
KILLS_MIN = 8 if IS_LONG else 2
END_TIMEOUT_S = 180
SEED = int(os.environ.get("FLEETLOG_SEED", random.SystemRandom().randrange(10**6)))

BY_SQL = """
SELECT s.tasks, s.last_task_id, count(*) AS rows, count(DISTINCT t.task_id) AS ids
FROM schedules AS s JOIN tasks AS t ON t.schedule = s.name
WHERE s.name = 'tick' GROUP BY ALL
"""


async def expected(fleet: Fleet) -> list[datetime]:
    """Counted by hand from the instant when the log had the schedule."""
    schedule = await load_schedule(fleet.log, "tick")
    assert schedule.set_at is not None
    anchor = schedule.set_at.replace(microsecond=schedule.set_at.microsecond // 1000 * 1000)
    return [anchor + timedelta(milliseconds=EVERY_MS) * k for k in range(1, INSTANTS + 1)]


async def latenesses_s(fleet: Fleet) -> list[float]:
    """From each instant to its task, by the server's clock."""
    found = []
    for record in await history(fleet, types=("TaskQueued",)):
        assert record.subject is not None
        instant = instant_of("tick", record.subject.id)
        assert instant is not None
        found.append((record.stored_at - instant).total_seconds())
    return sorted(found)


async def by_sql(fleet: Fleet, folder: Path) -> dict[str, int]:
    projector = Projector(fleet.log, folder, services=fleet.services, system=fleet.system)
    async with asyncio.TaskGroup() as group:
        group.create_task(projector.run())
        await projector.ready.wait()
        _, chunks = await query(fleet.services, SqlRequest(sql=BY_SQL, is_fresh=True))
        [row] = json.loads(b"".join([chunk async for chunk in chunks]))
        projector.stop()
    assert isinstance(row, dict)
    return row


async def test_a_schedule_makes_one_task_for_each_instant_whoever_is_killed(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    async with open_fleet(fresh_server.target, fleet) as opened, AsyncExitStack() as stack:

        async def hire() -> FleetProcess:
            coming = process_of("coordinator", fresh_server.target, fleet)
            return await stack.enter_async_context(coming)

        crew = [await hire(), await hire()]
        await set_quickly(opened, "tick", EVERY_MS)
        instants = await expected(opened)
        kills = 0
        async with asyncio.timeout(END_TIMEOUT_S):
            while opened.log.now() < instants[-1] or kills < KILLS_MIN:
                await asyncio.sleep(chance.uniform(0.5, 4.0))  # one acts, or takes over, or not yet
                await crew.pop(0).kill()
                crew.append(await hire())
                kills += 1
            await wait_for(opened, "TaskQueued", task_id=task_id_of("tick", instants[-1]))
        found = await made(opened, "tick")
        late_s = await latenesses_s(opened)
        row = await by_sql(opened, tmp_path / "views")
        await check_fleet(opened, is_quiet=False)
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {len(found)} instants, {kills} coordinators killed,"
            f" late p50 {late_s[len(late_s) // 2] * 1000:.0f} ms, at most {late_s[-1]:.1f} s"
        )
    assert set(found.values()) == {1}
    assert sorted(found)[:INSTANTS] == instants
    assert late_s[-1] > 1, "no kill has hit the one that acts"
    # What was made after the last look may be in the rows already.
    assert row["tasks"] == row["rows"] == row["ids"] >= len(found)
