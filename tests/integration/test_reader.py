"""Reading notices what got lost on the way."""

from __future__ import annotations

from support.proxy import Proxy

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.specs import TaskSpec


async def test_a_message_lost_on_the_way_is_noticed_and_read_again(
    server: EmbeddedServer, fleet: str
) -> None:
    lost: list[bytes] = []

    def lose_one(chunk: bytes) -> bytes:
        first = chunk.find(b"HMSG fleetlog.")
        second = chunk.find(b"HMSG fleetlog.", first + 1)
        if lost or first < 0 or second < 0:
            return chunk
        lost.append(chunk[first:second])
        return chunk[:first] + chunk[second:]

    async with (
        open_fleet(server.target, fleet) as direct,
        Proxy(server.target).running() as proxy,
        open_fleet(proxy.target, fleet) as behind,
    ):
        await Client(direct).submit_many([TaskSpec(handler="h")] * 3000)
        proxy.downstream = lose_one
        seen = [stored.seq async for page in behind.log.read() for stored in page]
    assert len(lost) == 1
    assert seen == list(range(1, 3001))


async def test_following_goes_on_over_a_restart_of_the_server(
    fresh_server: EmbeddedServer, fleet: str
) -> None:
    seen: list[int] = []
    async with open_fleet(fresh_server.target, fleet) as opened:
        client = Client(opened)
        await client.submit_many([TaskSpec(handler="h")] * 100)
        async for page in opened.log.follow():
            seen += [stored.seq for stored in page]
            if len(seen) == 100:
                fresh_server.kill()
                await fresh_server.wait()
                await fresh_server.restart()
                await client.submit_many([TaskSpec(handler="h")] * 100)
            if len(seen) >= 200:
                break
    assert seen == list(range(1, 201))
