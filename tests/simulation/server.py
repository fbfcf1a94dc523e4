"""A NATS server with JetStream, as far as fleetlog uses one, in virtual time.

It has the real server's manners, not an ideal one's: a batch is checked against the state before it; on a
replicated stream the check for writes that are under way goes by the guard's text; after a restart everything
unanswered is delivered again at once; a direct get may be answered by a replica that lags; who publishes to a
stream's subjects is heard by plain subscribers whether the stream takes the message or not.
`test_conformance.py` holds it against the real one.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from simulation.loop import CURRENT, SimLoop
from simulation.stream import (
    IN_FLIGHT,
    INCOMPLETE,
    NO_CONSUMER,
    NO_STREAM,
    NOT_FOUND,
    NS,
    WRONG_LAST,
    Consumer,
    Kept,
    Pull,
    Stream,
    matcher,
)

if TYPE_CHECKING:
    from simulation.link import Link

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
EPOCH_NS = int(EPOCH.timestamp()) * NS
BATCH_IDLE_S = 10.0
COMMIT_S = 0.002
_decoder = msgspec.json.Decoder(dict[str, Any])
"""What a replicated write takes until most servers have it."""


class Manners:
    """How the server behaves in a run."""

    def __init__(self, *, is_replicated: bool = False, lag_max: int = 0) -> None:
        self.is_replicated = is_replicated
        """Three servers: a write is under way for a moment."""
        self.lag_max = lag_max
        """So many messages behind may a replica be that answers a direct get."""


class Interest:
    """Someone who listens."""

    __slots__ = ("is_match", "link", "queue", "sid", "subject")

    def __init__(self, link: Link, sid: int, subject: str, queue: str) -> None:
        self.link = link
        self.sid = sid
        self.subject = subject
        self.queue = queue
        self.is_match = matcher(subject)


class SimServer:
    """See the module.

    Args:
        loop: its time.
        chance: what is random about it.
        manners: how it behaves.
    """

    def __init__(
        self, loop: SimLoop, chance: random.Random, manners: Manners | None = None
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.manners = manners or Manners()
        self.context = copy_context()
        self.context.run(CURRENT.set, None)
        self.is_up = True
        self.streams: dict[str, Stream] = {}
        self.links: list[Link] = []
        self.on_stored: Callable[[Stream, Kept], None] = lambda _stream, _kept: None
        self._exact: dict[str, list[Interest]] = {}
        self._wide: dict[str, list[Interest]] = {}
        self._batches: dict[str, tuple[float, list[tuple[str, dict[str, str], bytes]]]] = {}
        self._under_way: dict[str, set[str]] = {}
        self._looking_at: dict[int, float] = {}
        self._pulled: set[str] = set()
        """Where answers to pulls go."""
        self.skew = timedelta()
        """How far its clock is ahead."""
        self.epoch = 0
        """How often it has ended."""
        self._stopped_ns = 0

    def now(self) -> datetime:
        """Its clock."""
        return EPOCH + timedelta(seconds=self.loop.at) + self.skew

    def now_ns(self) -> int:
        """Its clock, in nanoseconds since 1970."""
        return EPOCH_NS + int((self.loop.at + self.skew.total_seconds()) * NS)

    # Its life.

    def stop(self) -> None:
        """Ends, as by a kill: every connection breaks."""
        self.is_up = False
        self._stopped_ns = self.now_ns()
        self.epoch += 1
        self._batches.clear()
        self._under_way.clear()
        for link in list(self.links):
            link.cut()

    def start(self, *, lost_s: float = 0.0) -> None:
        """Comes back; with `lost_s`, without what it had stored so shortly before its end."""
        self.is_up = True
        if lost_s:
            for stream in self.streams.values():
                if stream.is_memory:
                    continue
                since = self._stopped_ns - int(lost_s * NS)
                kept = sum(message.at_ns < since for message in stream.messages)
                stream.cut(kept)
        for name, stream in list(self.streams.items()):
            if stream.is_memory:
                del self.streams[name]
                continue
            for consumer in list(stream.consumers.values()):
                if consumer.is_durable:
                    consumer.restart()
                else:
                    stream.drop(consumer.name)

    # Who listens.

    def subscribe(self, interest: Interest) -> None:
        """Someone wants to hear."""
        if "*" in interest.subject or ">" in interest.subject:
            self._wide.setdefault(_head(interest.subject), []).append(interest)
        else:
            self._exact.setdefault(interest.subject, []).append(interest)

    def unsubscribe(self, link: Link, sid: int, subject: str) -> None:
        """Someone does not want to hear any more."""
        is_wide = "*" in subject or ">" in subject
        table, key = (self._wide, _head(subject)) if is_wide else (self._exact, subject)
        left = [each for each in table.get(key, ()) if (each.link, each.sid) != (link, sid)]
        if left:
            table[key] = left
        else:
            table.pop(key, None)
        if key in self._pulled:
            self._pulled.discard(key)
            self._drop_pulls()

    def _drop_pulls(self) -> None:
        for stream in self.streams.values():
            for consumer in stream.consumers.values():
                consumer.drop_pulls(lambda reply: not self._who_hears(reply))

    def forget(self, link: Link) -> None:
        """One does not listen to anything any more."""
        for table in (self._exact, self._wide):
            for key, found in list(table.items()):
                left = [each for each in found if each.link is not link]
                if len(left) == len(found):
                    continue
                if left:
                    table[key] = left
                else:
                    del table[key]
        self._drop_pulls()

    def _who_hears(self, subject: str) -> list[Interest]:
        found = list(self._exact.get(subject, ()))
        wide = self._wide.get(_head(subject), ())
        found += [each for each in wide if each.is_match(subject)]
        return found

    def _tell(self, to: str, subject: str, reply: str, header: bytes, data: bytes) -> bool:
        """To all who listen at `to`, and to one of each queue group; False: nobody does."""
        groups: dict[str, list[Interest]] = {}
        is_heard = False
        for each in self._who_hears(to):
            if each.queue:
                groups.setdefault(each.queue, []).append(each)
            else:
                is_heard = True
                each.link.deliver(each.sid, subject, reply, header, data)
        for members in groups.values():
            is_heard = True
            one = self.chance.choice(members)
            one.link.deliver(one.sid, subject, reply, header, data)
        return is_heard

    # What it is sent.

    def take(self, subject: str, reply: str, header: bytes, data: bytes) -> None:
        """A message has arrived."""
        if subject.startswith("$JS.API."):
            self._api(subject[8:], reply, data)
            return
        if subject.startswith("$JS.ACK."):
            self._ack(subject, data)
            return
        is_heard = self._tell(subject, subject, reply, header, data)
        for stream in self.streams.values():
            if any(is_match(subject) for is_match in stream.takes):
                self._publish(stream, subject, reply, header, data)
                return
        if reply and not is_heard:
            self._tell(reply, reply, "", b"NATS/1.0 503\r\n\r\n", b"")

    def _publish(
        self, stream: Stream, subject: str, reply: str, header: bytes, data: bytes
    ) -> None:
        headers = _headers(header)
        if (batch_id := headers.get("Nats-Batch-Id")) is not None:
            self._batch(stream, batch_id, (subject, headers, data), reply)
            return
        error = self._refuses(stream, headers)
        if error is not None:
            self._answer(reply, {"error": error, "stream": stream.name, "seq": 0})
        else:
            self._commit(stream, [(subject, headers, data)], reply, {})

    def _batch(
        self, stream: Stream, batch_id: str, member: tuple[str, dict[str, str], bytes], reply: str
    ) -> None:
        number = int(member[1]["Nats-Batch-Sequence"])
        since, members = self._batches.pop(batch_id, (self.loop.at, []))
        if number == 1:
            members = []
        is_whole = len(members) == number - 1 and self.loop.at - since < BATCH_IDLE_S
        members.append(member)
        if is_whole and "Nats-Batch-Commit" not in member[1]:
            self._batches[batch_id] = (self.loop.at, members)
            return
        if "Nats-Batch-Commit" not in member[1]:
            return
        # Each against the state before the batch, not against what stands before it in the batch.
        errors = (self._refuses(stream, headers) for _, headers, _ in members)
        error = (
            next((each for each in errors if each is not None), None)
            if is_whole
            else _error(INCOMPLETE)
        )
        if error is not None:
            self._answer(reply, {"error": error, "stream": stream.name, "seq": 0})
        else:
            self._commit(stream, members, reply, {"batch": batch_id, "count": len(members)})

    def _refuses(self, stream: Stream, headers: dict[str, str]) -> dict[str, Any] | None:
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        if expected is None:
            return None
        guard = headers["Nats-Expected-Last-Subject-Sequence-Subject"]
        if guard in self._under_way.get(stream.name, ()):
            return _error(IN_FLIGHT)
        last = stream.last_seq(guard)
        return None if last == int(expected) else _error(WRONG_LAST, f"wrong last sequence: {last}")

    def _commit(
        self,
        stream: Stream,
        members: list[tuple[str, dict[str, str], bytes]],
        reply: str,
        extra: dict[str, Any],
    ) -> None:
        def store() -> None:
            stirred: dict[Consumer, None] = {}
            for subject, _, data in members:
                kept = stream.store(subject, data, self.now_ns(), stirred)
                self.on_stored(stream, kept)
            self._answer(reply, {"stream": stream.name, "seq": stream.end, **extra})
            for consumer in stirred:
                self._serve(consumer)

        guards = [h.get("Nats-Expected-Last-Subject-Sequence-Subject", "") for _, h, _ in members]
        if not self.manners.is_replicated or stream.is_memory:
            store()
            return
        under_way = self._under_way.setdefault(stream.name, set())
        under_way.update(guards)
        epoch = self.epoch

        def agree() -> None:
            if epoch == self.epoch:
                under_way.difference_update(guards)
                store()

        self.later(self.chance.uniform(0.1, 1.0) * COMMIT_S, agree)

    def _answer(self, reply: str, answer: dict[str, Any]) -> None:
        if reply:
            self._tell(reply, reply, "", b"", msgspec.json.encode(answer))

    # JetStream's API.

    def _api(self, name: str, reply: str, data: bytes) -> None:
        words = name.split(".")
        match words:
            case ["CONSUMER", "MSG", "NEXT", stream, consumer]:
                self._next(self.streams.get(stream), consumer, _read(data), reply)
                return
            case ["STREAM", "CREATE", stream]:
                answer = self._create_stream(stream, _read(data))
            case ["STREAM", "INFO", stream]:
                answer = self._with(stream, self._stream_info)
            case ["STREAM", "MSG", "GET", stream]:
                answer = self._with(stream, lambda found: self._get(found, _read(data)))
            case ["DIRECT", "GET", stream]:
                self._direct(self.streams.get(stream), _read(data), reply)
                return
            case ["CONSUMER", "CREATE", stream, *_]:
                answer = self._with(stream, lambda found: self._create(found, _read(data)))
            case ["CONSUMER", "INFO", stream, consumer]:
                answer = self._with(stream, lambda found: _info(found, consumer))
            case ["CONSUMER", "DELETE", stream, consumer]:
                answer = self._with(stream, lambda found: self._delete(found, consumer))
            case _:
                raise AssertionError(f"the simulated server does not know {name}")
        self._answer(reply, answer)

    def _with(self, name: str, do: Callable[[Stream], dict[str, Any]]) -> dict[str, Any]:
        stream = self.streams.get(name)
        return (
            {"error": _error(NO_STREAM, "stream not found", 404)} if stream is None else do(stream)
        )

    def _create_stream(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = Stream(config, self.now_ns())
        return self._stream_info(stream)

    def _stream_info(self, stream: Stream) -> dict[str, Any]:
        return {
            "config": stream.config,
            "created": _text(stream.created_ns),
            "state": {"last_seq": stream.end, "bytes": stream.size},
            "ts": _text(self.now_ns()),
        }

    def _get(self, stream: Stream, which: dict[str, Any]) -> dict[str, Any]:
        if "last_by_subj" in which:
            kept = stream.last(which["last_by_subj"])
        elif "next_by_subj" in which:
            kept = next(stream.matching(which["next_by_subj"], which["seq"]), None)
        else:
            seq = which["seq"]
            kept = stream.messages[seq - 1] if 0 < seq <= stream.end else None
        if kept is None:
            return {"error": _error(NOT_FOUND, "no message found", 404)}
        data = b64encode(kept.data).decode()
        time = _text(kept.at_ns)
        return {"message": {"subject": kept.subject, "seq": kept.seq, "time": time, "data": data}}

    def _direct(self, stream: Stream | None, which: dict[str, Any], reply: str) -> None:
        lag = self.chance.randint(0, self.manners.lag_max)
        found: list[Kept] = []
        if stream is not None:
            seen = stream.end - lag
            wanted = stream.matching(which["next_by_subj"], which["seq"])
            found = [kept for kept in wanted if kept.seq <= seen][: which["batch"]]
        last = 0
        for kept in found:
            header = (
                f"NATS/1.0\r\nNats-Sequence: {kept.seq}\r\nNats-Time-Stamp: {_text(kept.at_ns)}\r\n"
                f"Nats-Subject: {kept.subject}\r\nNats-Last-Sequence: {last}\r\n\r\n"
            )
            last = kept.seq
            self._tell(reply, reply, "", header.encode(), kept.data)
        status = b"NATS/1.0 204 EOB\r\n\r\n" if found else b"NATS/1.0 404 Message Not Found\r\n\r\n"
        self._tell(reply, reply, "", status, b"")

    def _create(self, stream: Stream, request: dict[str, Any]) -> dict[str, Any]:
        config = request["config"]
        consumer = stream.consumers.get(config["name"])
        if consumer is None:
            consumer = stream.add(Consumer(stream, config, self._tell))
        return consumer.info()

    def _delete(self, stream: Stream, name: str) -> dict[str, Any]:
        consumer = stream.drop(name)
        if consumer is None:
            return {"error": _error(NO_CONSUMER, "consumer not found", 404)}
        self.later(0.0, consumer.delete)
        return {"success": True}

    def _next(self, stream: Stream | None, name: str, request: dict[str, Any], reply: str) -> None:
        consumer = None if stream is None else stream.consumers.get(name)
        if consumer is None:
            self._tell(reply, reply, "", b"NATS/1.0 503\r\n\r\n", b"")
            return
        self._pulled.add(reply)
        consumer.ask(Pull(reply, request, self.loop.at), self.loop.at)
        self._look_later(consumer)

    def _ack(self, subject: str, word: bytes) -> None:
        words = subject.split(".")
        stream = self.streams.get(words[2])
        consumer = None if stream is None else stream.consumers.get(words[3])
        if consumer is not None:
            consumer.answer(int(words[5]), word, self.loop.at)
            self._serve(consumer)

    def _serve(self, consumer: Consumer) -> None:
        consumer.serve(self.loop.at)
        self._look_later(consumer)

    def _look_later(self, consumer: Consumer) -> None:
        """One look at a time is under way for each consumer, and none too late."""
        at = consumer.next_at()
        planned = self._looking_at.get(id(consumer))
        if at is None or (planned is not None and self.loop.at < planned <= at):
            return
        self._looking_at[id(consumer)] = at
        self.later(at - self.loop.at, lambda: self._look(consumer, at))

    def _look(self, consumer: Consumer, at: float) -> None:
        if self._looking_at.get(id(consumer)) == at:
            del self._looking_at[id(consumer)]
        if self.is_up and consumer.stream.consumers.get(consumer.name) is consumer:
            self._serve(consumer)

    def later(self, delay_s: float, do: Callable[[], None]) -> None:
        """Does something of its own."""
        self.loop.call_later(delay_s, do, context=self.context)


def _head(subject: str) -> str:
    end = subject.find(".", subject.find(".") + 1)
    return subject if end < 0 else subject[:end]


def _error(code: int, text: str = "", status: int = 400) -> dict[str, Any]:
    return {"code": status, "err_code": code, "description": text or "wrong last sequence"}


def _headers(block: bytes) -> dict[str, str]:
    lines = block.decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines if line)


def _text(ns: int) -> str:
    return f"{_whole(ns // NS)}.{ns % NS:09d}Z"


@lru_cache(maxsize=4096)
def _whole(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _read(data: bytes) -> dict[str, Any]:
    return _decoder.decode(data)


def _info(stream: Stream, name: str) -> dict[str, Any]:
    consumer = stream.consumers.get(name)
    if consumer is None:
        return {"error": _error(NO_CONSUMER, "consumer not found", 404)}
    return consumer.info()
