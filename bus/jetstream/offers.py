"""Offers by durable pull consumers on the log: the queue is the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.jetstream.connection import ApiRefusal, Connection
from fleetlog.bus.log import EventLog
from fleetlog.bus.offers import Lane, Offer
from fleetlog.schemas import subjects

logger = logging.getLogger("fleetlog.bus")

ACK_WAIT_S: Final = 30.0
TAKE_TIMEOUT_S: Final = 2.0
_CONSUMER_NOT_FOUND: Final = 10014
_NS: Final = 1_000_000_000
_SETTLED: Final = frozenset({"completed", "failed", "cancelled", "expired"})


class _ConsumerConfig(msgspec.Struct, frozen=True):
    ack_policy: str = ""
    filter_subject: str = ""
    ack_wait: int = 0
    max_deliver: int = 0
    max_ack_pending: int = 0


class _Consumer(msgspec.Struct, frozen=True):
    config: _ConsumerConfig


class _Pull:
    """One outstanding request for offers."""

    __slots__ = ("answer", "count", "found", "lane")

    def __init__(self, lane: Lane, count: int, answer: asyncio.Future[None] | None) -> None:
        self.lane = lane
        self.count = count
        self.answer = answer
        self.found: list[Offer] = []


class JetStreamOffers:
    """See `fleetlog.bus.offers.Offers`."""

    def __init__(
        self, connection: Connection, log: EventLog, *, ack_wait_s: float = ACK_WAIT_S
    ) -> None:
        self.ack_wait_s = ack_wait_s
        self._connection = connection
        self._log = log
        self._stream = subjects.stream_names(log.fleet)[0]
        self._inbox = connection.client.new_inbox()
        self._pulls: dict[str, _Pull] = {}
        self._count = 0
        self._arrived: Callable[[Offer], None] | None = None
        self._subscription: Subscription | None = None

    async def bind(self, lanes: Sequence[Lane], arrived: Callable[[Offer], None]) -> None:
        """See `Offers`."""
        self._arrived = arrived
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)
        for lane in lanes:
            await self._ensure(lane)

    async def take(self, lane: Lane, count: int) -> list[Offer]:
        """See `Offers`."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pull = _Pull(lane, count, answer)
        token = await self._ask(pull, {"batch": count, "no_wait": True})
        try:
            async with asyncio.timeout(TAKE_TIMEOUT_S):
                await answer
        except TimeoutError:
            pass  # the server is away; what comes late arrives by the callback
        finally:
            pull.answer = None
            if answer.done():
                self._pulls.pop(token, None)
        return pull.found

    async def expect(self, lane: Lane, count: int, expires_s: float) -> None:
        """See `Offers`."""
        await self._ask(_Pull(lane, count, None), {"batch": count, "expires": int(expires_s * _NS)})

    async def ack(self, offer: Offer) -> None:
        """See `Offers`."""
        await self._connection.publish(offer.ack_subject, b"+ACK")

    async def nak(self, offer: Offer, delay_s: float = 0.0) -> None:
        """See `Offers`."""
        delay = b' {"delay": %d}' % int(delay_s * _NS) if delay_s else b""
        await self._connection.publish(offer.ack_subject, b"-NAK" + delay)

    async def in_progress(self, ack_subject: str) -> None:
        """See `Offers`."""
        await self._connection.publish(ack_subject, b"+WPI")

    async def close(self) -> None:
        """See `Offers`."""
        if self._subscription is not None and self._connection.is_connected:
            await self._subscription.drain()  # type: ignore[no-untyped-call] # nats-py has no types for it
            self._subscription = None

    async def _ask(self, pull: _Pull, request: dict[str, object]) -> str:
        self._count += 1
        token = str(self._count)
        self._pulls[token] = pull
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{_durable(pull.lane)}",
            msgspec.json.encode(request),
            reply=f"{self._inbox}.{token}",
        )
        return token

    async def _on_message(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        pull = self._pulls.get(token)
        if pull is None:
            return
        if message.headers and (status := message.headers.get("Status")) is not None:
            if status != "100":
                self._finish(token, pull)
            if status in ("409", "503"):
                await self._repair(pull.lane)
            return
        offer = _offer(pull.lane, message)
        pull.count -= 1
        if pull.answer is not None:
            pull.found.append(offer)
        elif self._arrived is not None:
            self._arrived(offer)
        if pull.count == 0:
            self._finish(token, pull)

    def _finish(self, token: str, pull: _Pull) -> None:
        self._pulls.pop(token, None)
        if pull.answer is not None and not pull.answer.done():
            pull.answer.set_result(None)

    async def _repair(self, lane: Lane) -> None:
        # 503: nobody serves the consumer, 409: it was deleted. Someone may have removed it under us.
        try:
            await self._ensure(lane)
        except (TransportError, ConfigError) as error:
            logger.warning("queue %s (%s): %s", lane.queue, lane.priority, error)

    async def _ensure(self, lane: Lane) -> None:
        name = _durable(lane)
        wanted = _ConsumerConfig(
            ack_policy="explicit",
            filter_subject=subjects.tasks(self._log.fleet, lane.queue, lane.priority, "queued"),
            ack_wait=int(self.ack_wait_s * _NS),
            max_deliver=-1,
            max_ack_pending=-1,
        )
        found = await self._find(name)
        if found is None:
            found = await self._create(name, wanted, await self._lowest_unsettled_offer(lane))
        if found != wanted:
            raise ConfigError(
                f"consumer {name} of stream {self._stream} has settings that fleetlog cannot work with:"
                f" {found}, must be {wanted}. Remove it with `nats consumer rm`; agents make it anew"
            )

    async def _find(self, name: str) -> _ConsumerConfig | None:
        try:
            found = await self._connection.ask(
                f"$JS.API.CONSUMER.INFO.{self._stream}.{name}", None, _Consumer
            )
        except ApiRefusal as refusal:
            if refusal.error.err_code == _CONSUMER_NOT_FOUND:
                return None
            raise
        return found.config

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


def _offer(lane: Lane, message: Msg) -> Offer:
    *_, delivered, stream_seq, _consumer_seq, at_ns, _pending = message.reply.split(".")[:9]
    return Offer(
        lane=lane,
        task_id=message.subject.split(".")[3],
        seq=int(stream_seq),
        stored_at_ns=int(at_ns),
        subject=message.subject,
        data=message.data,
        deliveries=int(delivered),
        ack_subject=message.reply,
    )
