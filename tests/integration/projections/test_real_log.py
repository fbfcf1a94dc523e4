"""From submit to SQL over a real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.projections.projector import Projector
from fleetlog.projections.query import SqlRequest, query
from fleetlog.schemas.beats import Beat
from fleetlog.schemas.specs import TaskSpec


async def test_what_was_submitted_can_be_queried_at_once(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    async with open_fleet(server.target, fleet) as opened:
        client = Client(opened)
        projector = Projector(
            opened.log, tmp_path, beats=opened.beats, services=opened.services, system=opened.system
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(projector.run())
            await projector.ready.wait()
            await client.submit_many(TaskSpec(handler="h", key=f"k{n}") for n in range(300))
            request = SqlRequest(
                sql="SELECT state, count(*) AS n FROM tasks GROUP BY 1", is_fresh=True
            )
            header, chunks = await query(opened.services, request)
            assert json.loads(b"".join([c async for c in chunks])) == [
                {"state": "queued", "n": 300}
            ]
            assert header.seq == await opened.log.end() == 300

            beat = Beat(agent_id="a1", host="h", occurred_at=opened.log.now())
            heard: list[object] = []
            async with asyncio.timeout(20):
                while not heard:
                    opened.beats.publish(beat)
                    _, chunks = await query(opened.services, SqlRequest(sql="FROM heartbeats"))
                    heard = json.loads(b"".join([c async for c in chunks]))
            projector.stop()
