"""What would leave nats-py deaf or closed for good, with nobody told, ends in another connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from support.proxy import Proxy

from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.jetstream import connection
from fleetlog.bus.jetstream.connection import Connection, connect
from fleetlog.bus.system import SystemClock

INFO = (
    b'INFO {"server_id":"X","version":"2.15.1","proto":1,"headers":true,"max_payload":1048576}\r\n'
)
MIB = 1024 * 1024

After = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server_that(does: After) -> AsyncIterator[Target]:
    """Lets everybody in, and does something to the first."""
    let_in = 0
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal let_in
        try:
            writer.write(INFO)
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    let_in += 1
                    writer.write(b"PONG\r\n")
                    if let_in == 1:
                        await does(writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        yield Target(url=f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


async def hang(writer: asyncio.StreamWriter) -> None:
    """Takes nothing any more."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


@asynccontextmanager
async def broken_and_back(link: Connection, within_s: float = 20) -> AsyncIterator[None]:
    """Within the block, the connection breaks; returns once it is back."""
    back = asyncio.Event()
    link.on_reconnect.append(back.set)
    yield
    async with asyncio.timeout(within_s):
        await back.wait()
    assert link.is_connected


def test_nats_py_still_has_the_names_that_are_built_on() -> None:
    assert {
        "_read_loop",
        "_process_op_err",
        "_process_err",
        "_process_pong",
        "_attempt_reconnect",
    } <= set(vars(Client))
    client = Client()
    assert (client._pongs, client._transport) == ([], None)
    assert TcpTransport()._io_writer is None
    assert client._status != Client.RECONNECTING


async def test_a_server_that_takes_nothing_any_more_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not sent yet would be waited for: the socket is closed behind it, or never."""
    monkeypatch.setattr(connection, "PING_S", 0.2)

    async with (
        server_that(hang) as target,
        connect(target, SystemClock()) as link,
        broken_and_back(link),
    ):
        for _ in range(64):
            link.wire.send("a.b", bytes(MIB // 4))


async def test_a_server_that_takes_nothing_any_more_keeps_nobody_from_ending() -> None:
    async with (
        server_that(hang) as target,
        asyncio.timeout(20),
        connect(target, SystemClock()) as link,
    ):
        for _ in range(64):
            link.wire.send("a.b", bytes(MIB // 4))


@pytest.mark.parametrize(
    "what", ["User Authentication Expired", "Authorization Violation", "Maximum Payload Violation"]
)
async def test_an_error_of_the_server_does_not_close_for_good(what: str) -> None:
    opened = asyncio.Event()

    async def end(writer: asyncio.StreamWriter) -> None:
        await opened.wait()
        writer.write(f"-ERR '{what}'\r\n".encode())
        writer.close()

    async with (
        server_that(end) as target,
        connect(target, SystemClock()) as link,
        broken_and_back(link),
    ):
        pass


async def test_an_error_of_the_server_that_it_goes_on_after_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def complain(writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR 'Maximum Subscriptions Exceeded'\r\n")

    async with server_that(complain) as target, connect(target, SystemClock()) as link:
        async with asyncio.timeout(5):
            while "the server says: maximum subscriptions exceeded" not in caplog.text:
                await link.client.flush()
        assert link.is_connected


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.target).running() as running:
        yield running


@pytest.fixture
async def link(proxy: Proxy) -> AsyncIterator[Connection]:
    async with connect(proxy.target, SystemClock()) as opened:
        yield opened


async def test_a_reading_that_ends_by_a_fault_of_its_own_is_begun_anew(
    link: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr(link.client, "_process_msg", fail)

    async def hear(_: Msg) -> None:
        pass

    async with broken_and_back(link, within_s=5):
        await link.client.subscribe("a.b", cb=hear)
        link.wire.send("a.b", b"")


async def test_a_reconnect_that_fails_by_a_fault_of_its_own_is_tried_again(
    link: Connection, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, failed = link.client._connect_command, asyncio.Event()

    def fail_once() -> bytes:
        if failed.is_set():
            return command()
        failed.set()
        raise TypeError("no")

    monkeypatch.setattr(link.client, "_connect_command", fail_once)
    async with broken_and_back(link):
        proxy.cut()
    assert failed.is_set()
