"""Offers by durable pull consumers on the log: the queue is the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from nats.aio.subscription import Subscription

from fleetlog.bus.core.stuck import Progress
from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.bus.jetstream.wire import status_of
from fleetlog.bus.log import EventLog
from fleetlog.bus.offers import Backlog, Lane, Offer, Taken
from fleetlog.schemas import subjects

logger = logging.getLogger("fleetlog.bus")

ACK_WAIT_S: Final = 30.0
TAKE_TIMEOUT_S: Final = 2.0
_CONSUMER_NOT_FOUND: Final = 10014
_MESSAGE_NOT_FOUND: Final = 10037
_NS: Final = 1_000_000_000
_SETTLED: Final = frozenset({"completed", "failed", "cancelled", "expired"})


class _ConsumerConfig(msgspec.Struct, frozen=True):
    ack_policy: str = ""
    filter_subject: str = ""
    ack_wait: int = 0
    max_deliver: int = 0
    max_ack_pending: int = 0


class _Place(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _Consumer(msgspec.Struct, frozen=True):
    config: _ConsumerConfig
    delivered: _Place = _Place()
    ack_floor: _Place = _Place()
    num_pending: int = 0
    num_ack_pending: int = 0


class _Message(msgspec.Struct, frozen=True):
    time: datetime


class _Found(msgspec.Struct, frozen=True):
    message: _Message


class _Asking:
    """One request at a time, and its answers. A delivered message carries the event's subject, not the inbox's:
    only the subscription it comes by tells what it answers.
    """

    def __init__(self, lane: Lane, inbox: str) -> None:
        self.lane = lane
        self.inbox = inbox
        self.taken: Taken | None = None
        self.missing_count = 0
        self.answered: asyncio.Future[None] | None = None

    def finish(self) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(None)


class JetStreamOffers:
    """See `fleetlog.bus.offers.Offers`."""

    def __init__(
        self, connection: Connection, log: EventLog, *, ack_wait_s: float = ACK_WAIT_S
    ) -> None:
        self.ack_wait_s = ack_wait_s
        self._connection = connection
        self._log = log
        self._stream = subjects.stream_names(log.fleet)[0]
        self._watching: dict[Lane, _Asking] = {}
        self._idle: dict[Lane, list[_Asking]] = {}
        self._subscriptions: list[Subscription] = []
        self._missing: asyncio.Queue[Lane] = asyncio.Queue()
        self._arrived: Callable[[Offer], None] = lambda _: None
        self._lost: Callable[[], None] = lambda: None

    async def bind(
        self, lanes: Sequence[Lane], arrived: Callable[[Offer], None], lost: Callable[[], None]
    ) -> None:
        """See `Offers`."""
        self._arrived, self._lost = arrived, lost
        if lost not in self._connection.on_reconnect:
            self._connection.on_reconnect.append(lost)
        for lane in lanes:
            await self._ensure(lane)
            self._idle[lane] = [await self._listen(lane)]
            self._watching[lane] = await self._listen(lane)

    async def take(self, lane: Lane, count: int, taken: Taken) -> int:
        """See `Offers`."""
        idle = self._idle[lane]
        asking = idle.pop() if idle else await self._listen(lane)
        asking.taken, asking.missing_count = taken, count
        asking.answered = answered = asyncio.get_running_loop().create_future()
        self._ask(asking, {"batch": count, "no_wait": True})
        try:
            async with asyncio.timeout(TAKE_TIMEOUT_S):
                await answered
        except TimeoutError:
            pass  # the server is away; what comes late arrives by the callback
        finally:
            asking.taken = asking.answered = None
            idle.append(asking)
        return count - asking.missing_count

    def expect(self, lane: Lane, count: int, expires_s: float) -> None:
        """See `Offers`."""
        self._ask(self._watching[lane], {"batch": count, "expires": int(expires_s * _NS)})

    async def backlog(self, lane: Lane) -> Backlog | None:
        """See `Offers`."""
        consumer = await self._connection.ask(self._info(_durable(lane)), None, _Consumer)
        if not consumer.num_pending:
            return None
        question = {
            "seq": consumer.delivered.stream_seq + 1,
            "next_by_subj": consumer.config.filter_subject,
        }
        try:
            found = await self._connection.ask(
                f"$JS.API.STREAM.MSG.GET.{self._stream}", question, _Found
            )
        except ApiRefusal as refusal:
            if refusal.error.err_code == _MESSAGE_NOT_FOUND:
                return None
            raise
        return Backlog(consumer.num_pending, found.message.time)

    async def progress(self, lane: Lane) -> Progress | None:
        """See `Offers`."""
        consumer = await self._look(_durable(lane))
        if consumer is None:
            return None
        return Progress(
            delivered=consumer.delivered.stream_seq,
            ack_floor=consumer.ack_floor.stream_seq,
            unacked=consumer.num_ack_pending,
        )

    def ack(self, ack_subject: str) -> None:
        """See `Offers`."""
        self._connection.wire.send(ack_subject, b"+ACK")

    def nak(self, ack_subject: str, delay_s: float = 0.0) -> None:
        """See `Offers`."""
        delay = b' {"delay": %d}' % int(delay_s * _NS) if delay_s else b""
        self._connection.wire.send(ack_subject, b"-NAK" + delay)

    def in_progress(self, ack_subject: str) -> None:
        """See `Offers`."""
        self._connection.wire.send(ack_subject, b"+WPI")

    async def run(self) -> None:
        """See `Offers`."""
        while True:
            lane = await self._missing.get()
            try:
                await self._ensure(lane)
            except (TransportError, ConfigError) as error:
                logger.warning("queue %s (%s): %s", lane.queue, lane.priority, error)

    async def close(self) -> None:
        """See `Offers`."""
        if self._lost in self._connection.on_reconnect:
            self._connection.on_reconnect.remove(self._lost)
        while self._subscriptions:
            await self._connection.wire.drain(self._subscriptions.pop())

    async def _listen(self, lane: Lane) -> _Asking:
        asking = _Asking(lane, self._connection.client.new_inbox())
        heard = partial(self._on_answer, asking)
        self._subscriptions.append(await self._connection.wire.listen(asking.inbox, heard))
        return asking

    def _ask(self, asking: _Asking, request: Mapping[str, object]) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{_durable(asking.lane)}"
        self._connection.wire.send(subject, msgspec.json.encode(request), reply=asking.inbox)

    def _on_answer(
        self, asking: _Asking, subject: bytes, reply: bytes, header: bytes, data: bytes
    ) -> None:
        if header and self._is_status(asking, header):
            asking.finish()
            return
        offer = _offer(asking.lane, subject, reply, data)
        if asking.taken is None:
            self._arrived(offer)
            return
        asking.taken(offer)
        asking.missing_count -= 1
        if asking.missing_count == 0:
            asking.finish()

    def _is_status(self, asking: _Asking, header: bytes) -> bool:
        status = status_of(header)
        if status in ("409", "503"):
            # 503: nobody serves the consumer, 409: it was deleted. Someone may have removed it under us.
            self._missing.put_nowait(asking.lane)
        return status is not None

    async def _ensure(self, lane: Lane) -> None:
        name = _durable(lane)
        wanted = _ConsumerConfig(
            ack_policy="explicit",
            filter_subject=subjects.tasks(self._log.fleet, lane.queue, lane.priority, "queued"),
            ack_wait=int(self.ack_wait_s * _NS),
            max_deliver=-1,
            max_ack_pending=-1,
        )
        consumer = await self._look(name)
        found = consumer.config if consumer is not None else None
        if found is None:
            found = await self._create(name, wanted, await self._lowest_unsettled_offer(lane))
        if found != wanted:
            raise ConfigError(
                f"consumer {name} of stream {self._stream} has settings that fleetlog cannot work with:"
                f" {found}, must be {wanted}. Remove it with `nats consumer rm`; agents make it anew"
            )

    async def _look(self, name: str) -> _Consumer | None:
        try:
            return await self._connection.ask(self._info(name), None, _Consumer)
        except ApiRefusal as refusal:
            if refusal.error.err_code == _CONSUMER_NOT_FOUND:
                return None
            raise

    def _info(self, name: str) -> str:
        return f"$JS.API.CONSUMER.INFO.{self._stream}.{name}"

    async def _create(self, name: str, wanted: _ConsumerConfig, first: int) -> _ConsumerConfig:
        config = msgspec.structs.asdict(wanted) | {
            "name": name,
            "durable_name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "max_waiting": 10_000,
        }
        created = await self._connection.ask(
            f"$JS.API.CONSUMER.CREATE.{self._stream}.{name}.{wanted.filter_subject}",
            {"stream_name": self._stream, "config": config, "action": ""},
            _Consumer,
        )
        return created.config

    async def _lowest_unsettled_offer(self, lane: Lane) -> int:
        """Where a new consumer begins, so that it does not deliver every offer there ever was."""
        offers: dict[str, int] = {}
        end = await self._log.end()
        wanted = subjects.tasks(self._log.fleet, lane.queue, lane.priority)
        async for page in self._log.read(subjects=wanted):
            for stored in page:
                subject = subjects.parse_subject(stored.subject)
                if subject.verb == "queued":
                    offers[subject.id] = stored.seq
                elif subject.verb in _SETTLED:
                    offers.pop(subject.id, None)
        return min(offers.values(), default=end + 1)


def _durable(lane: Lane) -> str:
    return f"offers_{lane.queue}_{lane.priority}"


def _offer(lane: Lane, subject: bytes, reply: bytes, data: bytes) -> Offer:
    delivered, stream_seq, _, at_ns = reply.split(b".", 8)[4:8]
    return Offer(
        lane=lane,
        task_id=subject.split(b".", 4)[3].decode(),
        seq=int(stream_seq),
        stored_at_ns=int(at_ns),
        data=data,
        deliveries=int(delivered),
        ack_subject=reply.decode(),
    )
