"""The hot path beside nats-py: the private names it leans on, cut frames, and what belongs to nats-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.protocol.parser import Parser
from support.proxy import Proxy

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.jetstream.connection import Connection, connect
from fleetlog.bus.jetstream.wire import header_block, status_of
from fleetlog.bus.system import SystemClock


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.target).running() as running:
        yield running


@pytest.fixture
async def link(proxy: Proxy) -> AsyncIterator[Connection]:
    async with connect(proxy.target, SystemClock()) as connection:
        yield connection


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[bytes, bytes, bytes, bytes]] = []
        self.came = asyncio.Event()

    def __call__(self, subject: bytes, reply: bytes, header: bytes, data: bytes) -> None:
        self.heard.append((subject, reply, header, data))
        self.came.set()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.heard) < count:
                self.came.clear()
                await self.came.wait()


def test_nats_py_still_has_the_names_that_the_wire_uses() -> None:
    client = Client()
    assert isinstance(client._ps, Parser)
    assert callable(client._process_msg)
    assert client._transport is None
    assert {"parse", "reset"} <= set(dir(Parser))


async def test_the_answer_to_a_ping_that_nobody_waits_for_any_more_ends_nothing(
    link: Connection,
) -> None:
    """nats-py stopped reading, for good, until its own pings had stayed without an answer."""
    for _ in range(3):
        flushing = asyncio.create_task(link.client.flush())
        await asyncio.sleep(0)  # the ping is sent
        flushing.cancel()
        await asyncio.wait([flushing])
        async with asyncio.timeout(2):
            await link.client.flush()
    assert link.is_connected


async def test_messages_pass_with_and_without_header_and_reply(link: Connection) -> None:
    ear = Ear()
    await link.wire.listen("wire.>", ear)
    header = header_block({"A": "b"})
    link.wire.send("wire.plain", b"one")
    link.wire.send("wire.reply", b"two\r\nMSG x", reply="back.to")
    link.wire.send("wire.header", b"", header=header)
    link.wire.send("wire.both", b"four", reply="back.to", header=header)
    await ear.wait(4)
    assert ear.heard == [
        (b"wire.plain", b"", b"", b"one"),
        (b"wire.reply", b"back.to", b"", b"two\r\nMSG x"),
        (b"wire.header", b"", header, b""),
        (b"wire.both", b"back.to", header, b"four"),
    ]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
async def test_frames_cut_anywhere_come_whole(link: Connection, proxy: Proxy, size: int) -> None:
    """Everything the server says is fed to the parser in small pieces, nats-py's own messages too."""
    ear = Ear()
    await link.wire.listen("wire.cut", ear)
    parse = link.client._ps.parse

    async def in_pieces(data: bytes = b"") -> None:
        for start in range(0, len(data), size):
            await parse(data[start : start + size])

    link.client._ps.parse = in_pieces
    sent = [bytes([65 + n % 26]) * (n * 37) + b"\r\nPING\r\n" for n in range(60)]
    for data in sent:
        link.wire.send("wire.cut", data, header=header_block({"N": "1"}))
    own = await link.client.request("$JS.API.INFO", timeout=10)
    await ear.wait(60)
    assert [data for *_, data in ear.heard] == sent
    assert b"account_info" in own.data


async def test_a_listener_that_raises_does_not_stop_the_reading(link: Connection) -> None:
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: said.append(what["message"]))
    ear = Ear()

    def clumsy(*message: bytes) -> None:
        raise ValueError("no")

    await link.wire.listen("wire.clumsy", clumsy)
    await link.wire.listen("wire.well", ear)
    link.wire.send("wire.clumsy", b"")
    link.wire.send("wire.well", b"")
    await ear.wait(1)
    assert said == ["a message on wire.clumsy could not be handled"]


async def test_listening_goes_on_after_a_reconnect(link: Connection, proxy: Proxy) -> None:
    ear = Ear()
    back = asyncio.Event()
    link.on_reconnect.append(back.set)
    await link.wire.listen("wire.again", ear)
    proxy.cut()
    async with asyncio.timeout(20):
        await back.wait()
    link.wire.send("wire.again", b"x")
    await ear.wait(1)


async def test_what_ended_is_heard_no_more_and_what_drains_is_heard_to_the_end(
    link: Connection,
) -> None:
    ended, drained = Ear(), Ear()
    first = await link.wire.listen("wire.ended", ended)
    second = await link.wire.listen("wire.drained", drained)
    await link.wire.end(first)
    for _ in range(500):
        link.wire.send("wire.ended", b"")
        link.wire.send("wire.drained", b"")
    await link.client.flush()
    await link.wire.drain(second)
    assert len(drained.heard) == 500
    assert ended.heard == []


def test_status_is_told_from_a_message() -> None:
    assert status_of(b"NATS/1.0 404 No Messages\r\n\r\n") == "404"
    assert status_of(b"NATS/1.0\r\nA: b\r\n\r\n") is None
    assert status_of(b"") is None
