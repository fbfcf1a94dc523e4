"""A process's connection to the simulated server: in order, delayed, broken, and sometimes losing something.

In the place of nats-py and of its socket; everything above is fleetlog's own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from fleetlog.bus.background import heeding_cancel
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.bus.jetstream.wire import Heard, header_block
from fleetlog.bus.system import Clock
from simulation.loop import SimLoop, SimProcess
from simulation.server import Interest, SimServer

MAX_PAYLOAD = 1024 * 1024
FLUSH_TIMEOUT_S = 5.0
TICK_S = 1e-9
ANY_SOCKET = -1
TOGETHER = 0.7
"""So often a message arrives with the one before it, if that is still on its way."""


class Network:
    """What a connection is like in a run; may change while it goes on."""

    def __init__(
        self, *, delay_s: tuple[float, float] = (0.0001, 0.002), loss: float = 0.0
    ) -> None:
        self.delay_s = delay_s
        """The least and the most, each way."""
        self.loss = loss
        """The part of messages that never arrives: worse than TCP, and allowed for by the design."""


class _Packet:
    """What arrives together."""

    __slots__ = ("messages", "way")

    def __init__(self, way: _Way) -> None:
        self.way = way
        self.messages: list[tuple[int, Callable[..., object], tuple[Any, ...]]] = []

    def arrive(self) -> None:
        """It is there."""
        way = self.way
        if way.packet is self:
            way.packet = None
        for socket, do, args in self.messages:
            if way.is_open(socket):
                do(*args)


class _Way:
    """One direction of a connection: everything in order, and what is sent within a moment often together.

    Args:
        loop: its time.
        context: of the process that it leads to.
        chance: its delays.
        network: what it is like.
        is_open: whether what was sent over a socket still arrives.
    """

    def __init__(
        self,
        loop: SimLoop,
        context: Context,
        chance: random.Random,
        network: Network,
        is_open: Callable[[int], bool],
    ) -> None:
        self.is_open = is_open
        self.packet: _Packet | None = None
        self._loop = loop
        self._context = context
        self._chance = chance
        self._network = network
        self._at = 0.0

    def send(self, socket: int, do: Callable[..., object], *args: Any) -> None:
        """Calls `do` at the other end."""
        if self.packet is None or self._chance.random() >= TOGETHER:
            self.packet = _Packet(self)
            delay_s = self._chance.uniform(*self._network.delay_s)
            # Never the same instant twice, and never before what was sent before.
            self._at = max(self._at + TICK_S, self._loop.at + delay_s)
            self._loop.call_at(self._at, self.packet.arrive, context=self._context)
        self.packet.messages.append((socket, do, args))

    def stall(self, for_s: float) -> None:
        """Nothing gets through for a while."""
        self.packet = None
        self._at = max(self._at, self._loop.at + for_s)

    def begin(self) -> None:
        """There is a new socket."""
        self.packet = None
        self._at = self._loop.at


class Link:
    """One connection, over as many sockets as it takes.

    Args:
        server: at the other end.
        process: whose it is.
        chance: its delays and losses.
        network: what it is like.
    """

    def __init__(
        self, server: SimServer, process: SimProcess, chance: random.Random, network: Network
    ) -> None:
        self.server = server
        self.process = process
        self.network = network
        self.is_connected = server.is_up
        self.lost_count = 0
        self.on_cut: Callable[[], None] = lambda: None
        self.on_back: Callable[[], None] = lambda: None
        self._chance = chance
        self._socket = 0
        self._epoch = server.epoch
        self.loop = server.loop
        """Its time."""
        self._up_way = _Way(self.loop, server.context, chance, network, self._reaches_server)
        self._down_way = _Way(self.loop, process.context, chance, network, self._reaches_client)
        self._heard: dict[int, Callable[[str, str, bytes, bytes], None]] = {}
        self._wanted: dict[int, tuple[str, str]] = {}
        self._sid = 0
        self._fuse: tuple[int, Callable[[], None], bool] | None = None
        server.links.append(self)
        process.on_death.append(self.end)
        if not self.is_connected:
            self._try_again()

    def send(self, subject: str, reply: str, header: bytes, data: bytes) -> None:
        """To the server; lost without a connection."""
        if self._fuse is not None and not self._burn(subject, reply, header, data):
            return
        if self.is_connected and not self._is_lost():
            self._up(self.server.take, subject, reply, header, data)

    def die_at(self, count: int, die: Callable[[], None], *, is_sent: bool) -> None:
        """Calls `die` at its message `count` from now on, which still leaves or does not."""
        self._fuse = (count, die, is_sent)

    def live_on(self) -> None:
        """It does not die after all."""
        self._fuse = None

    def _burn(self, subject: str, reply: str, header: bytes, data: bytes) -> bool:
        """Whether it lives on."""
        assert self._fuse is not None
        count, die, is_sent = self._fuse
        self._fuse = (count - 1, die, is_sent)
        if count > 1:
            return True
        self._fuse = None
        if is_sent:
            self.send(subject, reply, header, data)
        die()
        return False

    def listen(
        self, subject: str, queue: str, heard: Callable[[str, str, bytes, bytes], None]
    ) -> int:
        """Asks for messages; answers by what it can be ended."""
        self._sid += 1
        sid = self._sid
        self._heard[sid] = heard
        self._wanted[sid] = (subject, queue)
        if self.is_connected:
            self._up(self.server.subscribe, Interest(self, sid, subject, queue))
        return sid

    def unlisten(self, sid: int) -> None:
        """Ends it."""
        self._heard.pop(sid, None)
        subject, _ = self._wanted.pop(sid, ("", ""))
        if subject and self.is_connected:
            self._up(self.server.unsubscribe, self, sid, subject)

    def ping(self, done: Callable[[], None]) -> None:
        """Calls back once the server has had everything that was sent before."""
        if self.is_connected:
            self._up(self._down, done)

    def deliver(self, sid: int, subject: str, reply: str, header: bytes, data: bytes) -> None:
        """From the server."""
        if not self._is_lost():
            self._down(self._hear, sid, subject, reply, header, data)

    def _hear(self, sid: int, subject: str, reply: str, header: bytes, data: bytes) -> None:
        if (heard := self._heard.get(sid)) is not None:
            heard(subject, reply, header, data)

    def stall(self, for_s: float) -> None:
        """Nothing gets through for a while, and nobody notices."""
        self._up_way.stall(for_s)
        self._down_way.stall(for_s)

    def cut(self) -> None:
        """The connection breaks, and what is on its way is lost; it comes back by itself."""
        if not self.is_connected:
            return
        self._leave()
        if not self.process.is_dead:
            self._inside(self.on_cut)
            self._try_again()

    def end(self) -> None:
        """Its process has died or has closed it; what it has handed over still arrives, perhaps."""
        if self in self.server.links:
            self.server.links.remove(self)
        if self.is_connected:
            is_rest_lost = self._chance.random() < 0.5
            self.is_connected = False
            if is_rest_lost:
                self._socket += 1
            self._up_way.send(ANY_SOCKET, self.server.forget, self)

    def _leave(self) -> None:
        self.is_connected = False
        self._socket += 1
        self.server.forget(self)

    def _try_again(self) -> None:
        delay_s = self._chance.uniform(0.1, 0.6)
        self.server.later(delay_s, self._connect)

    def _connect(self) -> None:
        if self.process.is_dead or self not in self.server.links:
            return
        if not self.server.is_up:
            self._try_again()
            return
        self.is_connected = True
        self._epoch = self.server.epoch
        self._up_way.begin()
        self._down_way.begin()
        for sid, (subject, queue) in self._wanted.items():
            self._up(self.server.subscribe, Interest(self, sid, subject, queue))
        self._inside(self.on_back)

    def _is_lost(self) -> bool:
        if self.network.loss and self._chance.random() < self.network.loss:
            self.lost_count += 1
            return True
        return False

    def _up(self, do: Callable[..., object], *args: Any) -> None:
        self._up_way.send(self._socket, do, *args)

    def _down(self, do: Callable[..., object], *args: Any) -> None:
        self._down_way.send(self._socket, do, *args)

    def _reaches_server(self, socket: int) -> bool:
        # A server that has come back knows nothing of what was sent to it before, by whomever.
        is_of_now = socket == self._socket and self._epoch == self.server.epoch
        return self.server.is_up and (is_of_now or socket == ANY_SOCKET)

    def _reaches_client(self, socket: int) -> bool:
        return socket == self._socket and self.is_connected

    def _inside(self, do: Callable[[], None]) -> None:
        self.loop.call_soon(do, context=self.process.context)


class SimSubscription:
    """As nats-py's, as far as it is used."""

    def __init__(self, link: Link, sid: int) -> None:
        self._link = link
        self.sid = sid

    async def unsubscribe(self) -> None:
        """Ends it."""
        self._link.unlisten(self.sid)


class SimWire:
    """See `fleetlog.bus.jetstream.wire.Wire`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def listen(self, subject: str, heard: Heard) -> SimSubscription:
        """Calls `heard` for each message; returns when the server has the subscription."""

        def hear(subject: str, reply: str, header: bytes, data: bytes) -> None:
            heard(subject.encode(), reply.encode(), header, data)

        subscription = SimSubscription(self._link, self._link.listen(subject, "", hear))
        await _flush(self._link)
        return subscription

    async def end(self, subscription: SimSubscription) -> None:
        """Ends a subscription."""
        await subscription.unsubscribe()

    async def drain(self, subscription: SimSubscription) -> None:
        """Ends a subscription; what the server has sent before is still heard."""
        await _flush(self._link)
        await subscription.unsubscribe()

    def send(self, subject: str, data: bytes, *, reply: str = "", header: bytes = b"") -> None:
        """Sends a message; lost when there is no connection."""
        self._link.send(subject, reply, header, data)


class SimClient:
    """See nats-py's `Client`, as far as it is used."""

    max_payload = MAX_PAYLOAD
    connected_server_version = SimpleNamespace(major=2, minor=15, patch=1)

    def __init__(self, link: Link, chance: random.Random) -> None:
        self._link = link
        self._chance = chance
        self._kept: list[tuple[str, str, bytes, bytes]] = []
        self.is_closed = False
        self.is_draining = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._link.is_connected

    def new_inbox(self) -> str:
        """Nobody else's."""
        return f"_INBOX.{self._chance.getrandbits(88):022x}"

    async def subscribe(
        self,
        subject: str,
        queue: str = "",
        cb: Callable[[Msg], Awaitable[None]] | None = None,
        **_limits: int,
    ) -> SimSubscription:
        """Calls `cb` for each message, one at a time."""
        assert cb is not None
        arrived: asyncio.Queue[Msg] = asyncio.Queue()

        def hear(subject: str, reply: str, header: bytes, data: bytes) -> None:
            arrived.put_nowait(_message(self, subject, reply, header, data))

        async def pass_on() -> None:
            while True:
                await cb(await arrived.get())

        passing = asyncio.get_running_loop().create_task(pass_on())
        subscription = SimSubscription(self._link, self._link.listen(subject, queue, hear))
        end = subscription.unsubscribe

        async def unsubscribe() -> None:
            passing.cancel()
            await end()

        subscription.unsubscribe = unsubscribe
        return subscription

    async def publish(
        self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Sends; without a connection it is kept for the next one."""
        message = (subject, reply, header_block(headers) if headers else b"", data)
        if self.is_connected:
            self._link.send(*message)
        else:
            self._kept.append(message)

    def send_kept(self) -> None:
        """The connection is back."""
        kept, self._kept = self._kept, []
        for message in kept:
            self._link.send(*message)

    async def request(
        self, subject: str, data: bytes, timeout: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Asks, and waits for the one answer."""
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        def hear(subject: str, reply: str, header: bytes, data: bytes) -> None:
            if not answer.done():
                answer.set_result(_message(self, subject, reply, header, data))

        inbox = self.new_inbox()
        sid = self._link.listen(inbox, "", hear)
        try:
            await self.publish(subject, data, inbox, headers)
            async with asyncio.timeout(timeout):
                message = await answer
        except TimeoutError as error:
            raise nats.errors.TimeoutError from error
        finally:
            self._link.unlisten(sid)
        if message.headers and message.headers.get("Status") == "503":
            raise nats.errors.NoRespondersError
        return message

    async def flush(self, timeout: float = FLUSH_TIMEOUT_S) -> None:
        """Waits until the server has everything."""
        await _flush(self._link, timeout)

    async def close(self) -> None:
        """Ends the connection."""
        self.is_closed = True
        self._link.end()


async def _flush(link: Link, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
    ponged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    link.ping(lambda: None if ponged.done() else ponged.set_result(None))
    try:
        async with asyncio.timeout(timeout_s if link.is_connected else 0):
            await ponged
    except TimeoutError:
        return


def _message(client: Any, subject: str, reply: str, header: bytes, data: bytes) -> Msg:
    headers = None
    if header:
        first, *lines = header.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        if len(status := first.split(" ", 2)) > 1:
            headers["Status"] = status[1]
    return Msg(client, subject, reply, data, headers)


def connect(link: Link, clock: Clock, chance: random.Random) -> Connection:
    """The connection of a process, as fleetlog sees it."""
    client = SimClient(link, chance)
    connection = Connection(clock, client, SimWire(link))

    def cut() -> None:
        _go(connection.on_disconnected())

    def back() -> None:
        client.send_kept()
        _go(connection.on_reconnected())

    link.on_cut, link.on_back = cut, back
    if link.is_connected:
        connection.mark_connected()
    return connection


def _go(coroutine: Any) -> None:
    asyncio.get_running_loop().create_task(heeding_cancel(coroutine))
