"""Heartbeats: heard, kept in the server's memory, and gone with it."""

from __future__ import annotations

import asyncio

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.schemas.beats import Beat


def beat(fleet: Fleet, agent_id: str) -> Beat:
    return Beat(agent_id=agent_id, host="h", occurred_at=fleet.log.now())


async def test_a_beat_is_heard_and_kept(server: EmbeddedServer, fleet: str) -> None:
    async with open_fleet(server.target, fleet) as opened:
        heard = opened.beats.follow()
        coming = asyncio.ensure_future(anext(heard))
        while not coming.done():
            opened.beats.publish(beat(opened, "a1"))
            await opened.log.end()
        assert (await coming)[0].beat.agent_id == "a1"
        last = await opened.beats.last("a1")
        assert last is not None
        assert last.beat.host == "h"
        assert await opened.beats.last("a2") is None
        await heard.aclose()  # type: ignore[attr-defined]


async def test_silence_is_counted_only_from_when_the_server_keeps_beats(
    fresh_server: EmbeddedServer, fleet: str
) -> None:
    """After a restart nobody has a beat yet; that is no sign of anyone's death."""
    async with open_fleet(fresh_server.target, fleet) as opened:
        opened.beats.publish(beat(opened, "living"))
        await opened.log.end()
        before = opened.log.now()
        back = asyncio.Event()
        opened.link.on_reconnect.append(back.set)
        fresh_server.kill()
        await fresh_server.wait()
        await asyncio.sleep(1.0)  # the absence is what is tested
        await fresh_server.restart()
        async with asyncio.timeout(30):
            await back.wait()
        assert await opened.beats.last("living") is None
        silence_s = await opened.beats.silence_s("living")
        assert silence_s < (opened.log.now() - before).total_seconds() - 1.0
