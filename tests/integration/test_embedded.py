from __future__ import annotations
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.embedded.runtime import attest_durability


async def test_server_attests_always(server: EmbeddedServer) -> None:
    assert await attest_durability(server.target.http_url) == "always"


async def test_relaxed(relaxed_server: EmbeddedServer, fresh_server: EmbeddedServer) -> None:
    assert await attest_durability(relaxed_server.target.http_url) == "relaxed"
    fresh_server.kill()
    assert await fresh_server.wait() == -9
    before = fresh_server.target
    await fresh_server.restart()
    assert before == fresh_server.target


def test_sync(server):
    assert server.running
