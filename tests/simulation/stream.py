"""A stream and its consumers, with the manners that the real server was seen to have."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

WRONG_LAST = 10071
IN_FLIGHT = 10164
INCOMPLETE = 10176
NOT_FOUND = 10037
NO_CONSUMER = 10014
NO_STREAM = 10059
ROLLED_BACK = "the server lost it"
NS = 1_000_000_000


@lru_cache(maxsize=4096)
def matcher(subjects: str) -> Callable[[str], object]:
    """What a filter covers: `*` one token, `>` the rest."""
    if "*" not in subjects and not subjects.endswith(">"):
        return subjects.__eq__
    if "*" not in subjects:
        start = subjects[:-1]
        return lambda subject: subject.startswith(start)
    words = {"*": r"[^.]+", ">": ".+"}
    pattern = r"\.".join(words.get(word) or re.escape(word) for word in subjects.split("."))
    return re.compile(pattern).fullmatch


class Kept(NamedTuple):
    """A message of a stream."""

    seq: int
    at_ns: int
    subject: str
    data: bytes


class Stream:
    """Messages in order.

    Args:
        config: as it was asked for.
        created_ns: when.
    """

    def __init__(self, config: dict[str, Any], created_ns: int) -> None:
        self.config = config
        self.name: str = config["name"]
        self.created_ns = created_ns
        self.is_memory = config["storage"] == "memory"
        self.takes = [matcher(each) for each in config["subjects"]]
        self.messages: list[Kept] = []
        self.size = 0
        """Of all its data, in bytes."""
        self.consumers: dict[str, Consumer] = {}
        self._things: dict[str, list[Kept]] = {}
        self._kinds: dict[str, list[Kept]] = {}
        self._readers: dict[str, list[Consumer]] = {}
        self._narrow_readers: list[Consumer] = []

    @property
    def end(self) -> int:
        """The last sequence."""
        return len(self.messages)

    def store(self, subject: str, data: bytes, at_ns: int, stirred: dict[Consumer, None]) -> Kept:
        """Appends; adds to `stirred` who has something to deliver for it."""
        kept = Kept(self.end + 1, at_ns, subject, data)
        self.messages.append(kept)
        self.size += len(data)
        kind = kind_of(subject)
        self._things.setdefault(thing_of(subject), []).append(kept)
        self._kinds.setdefault(kind, []).append(kept)
        for consumer in self._who_reads(kind, subject):
            if consumer.see(kept):
                stirred[consumer] = None
        return kept

    def _who_reads(self, kind: str, subject: str) -> list[Consumer]:
        found = self._readers.get(kind)
        if found is None:
            wide = (each for each in self.consumers.values() if each.is_for_any_thing)
            found = self._readers[kind] = [each for each in wide if each.is_for(subject)]
        if not self._narrow_readers:
            return found
        return found + [each for each in self._narrow_readers if each.is_for(subject)]

    def add(self, consumer: Consumer) -> Consumer:
        """From now on it sees what is stored."""
        self.consumers[consumer.name] = consumer
        self._sort_readers()
        return consumer

    def drop(self, name: str) -> Consumer | None:
        """It is gone; answers it if it was there."""
        consumer = self.consumers.pop(name, None)
        self._sort_readers()
        return consumer

    def _sort_readers(self) -> None:
        self._readers.clear()
        self._narrow_readers = [
            each for each in self.consumers.values() if not each.is_for_any_thing
        ]

    def cut(self, end: int) -> None:
        """Forgets what came after `end`, as a server that had not written it to the disk."""
        del self.messages[end:]
        self.size = sum(len(kept.data) for kept in self.messages)
        for consumer in self.consumers.values():
            consumer.cut(end)
        for group in (*self._things.values(), *self._kinds.values()):
            while group and group[-1].seq > end:
                group.pop()

    def matching(self, subjects: str, first: int = 1) -> Iterator[Kept]:
        """Messages of a filter, from a sequence on."""
        group = self._group(subjects)
        is_match = matcher(subjects)
        for kept in group[bisect_left(group, first, key=_seq_of) :]:
            if is_match(kept.subject):
                yield kept

    def last(self, subjects: str) -> Kept | None:
        """The last message of a filter."""
        is_match = matcher(subjects)
        found = reversed(self._group(subjects))
        return next((kept for kept in found if is_match(kept.subject)), None)

    def _group(self, subjects: str) -> list[Kept]:
        """As few messages as can be found quickly, among them all of a filter."""
        words = subjects.split(".")
        if not _is_wide(words[:4]):
            return self._things.get(".".join(words[:4]), [])
        if not _is_wide(words[:3]) and words[3] == "*" and not _is_wide(words[4:]):
            return self._kinds.get(kind_of(subjects), [])
        return self.messages

    def last_seq(self, subjects: str) -> int:
        """Its sequence; 0 without one."""
        last = self.last(subjects)
        return 0 if last is None else last.seq


def thing_of(subject: str) -> str:
    """The first four tokens: what the events of a log speak of."""
    return ".".join(subject.split(".", 4)[:4])


def kind_of(subject: str) -> str:
    """All but the fourth token: what kind of event it is."""
    words = subject.split(".", 4)
    return ".".join((*words[:3], *words[4:]))


def _is_for_any_thing(subjects: str) -> bool:
    first = subjects.split(".", 4)[:4]
    return first[-1] == ">" or first[3:] == ["*"]


def _is_wide(words: list[str]) -> bool:
    return "*" in words or ">" in words


def _seq_of(kept: Kept) -> int:
    return kept.seq


class Pull:
    """A request for messages that waits."""

    __slots__ = ("expires_at", "heartbeat_s", "is_no_wait", "left", "quiet_since", "reply")

    def __init__(self, reply: str, request: dict[str, Any], now: float) -> None:
        self.reply = reply
        self.left: int = request.get("batch", 1)
        self.is_no_wait: bool = request.get("no_wait", False)
        self.expires_at = now + request["expires"] / NS if "expires" in request else None
        self.heartbeat_s = request.get("idle_heartbeat", 0) / NS
        self.quiet_since = now


class Consumer:
    """A pull consumer, durable with acks or ephemeral without.

    Args:
        stream: whose messages.
        config: as it was asked for.
        tell: sends subject, reply, header and data to whoever listens at the first argument; False: nobody.
    """

    def __init__(
        self,
        stream: Stream,
        config: dict[str, Any],
        tell: Callable[[str, str, str, bytes, bytes], bool],
    ) -> None:
        self.stream = stream
        self.config = config
        self.name: str = config["name"]
        self.is_durable = "durable_name" in config
        self.is_acking = config.get("ack_policy") == "explicit"
        self.ack_wait_s = config.get("ack_wait", 30 * NS) / NS
        self._filter: str = config["filter_subject"]
        self.is_for = matcher(self._filter)
        """Whether a subject is one of those that it reads."""
        self.is_for_any_thing = _is_for_any_thing(self._filter)
        self._tell = tell
        first = config.get("opt_start_seq", 1)
        self._new = deque(kept.seq for kept in stream.matching(self._filter, first))
        self._again: deque[int] = deque()
        self._pending: dict[int, tuple[int, float]] = {}
        """By sequence: how often it was delivered, and until when it has to be answered."""
        self._late: dict[int, float] = {}
        """Sequences that come again, and when."""
        self._counts: dict[int, int] = {}
        self._pulls: deque[Pull] = deque()
        self._delivered_count = 0
        self.delivered = first - 1

    @property
    def num_pending(self) -> int:
        """How many it has not delivered yet."""
        return len(self._new)

    def info(self) -> dict[str, Any]:
        """As `CONSUMER.INFO` has it."""
        unacked = {*self._pending, *self._late, *self._again}
        return {
            "name": self.name,
            "config": self.config,
            "delivered": {"stream_seq": self.delivered},
            "ack_floor": {"stream_seq": min(unacked, default=self.delivered + 1) - 1},
            "num_pending": self.num_pending,
            "num_ack_pending": len(unacked),
        }

    def see(self, kept: Kept) -> bool:
        """A message of its kind was stored; answers whether someone waits for it."""
        self._new.append(kept.seq)
        return bool(self._pulls)

    def ask(self, pull: Pull, now: float) -> None:
        """Someone wants messages."""
        self._pulls.append(pull)
        self.serve(now)

    def serve(self, now: float) -> None:
        """Delivers what can be delivered, ends what has expired."""
        if self._pending or self._late:
            self._take_back(now)
        while self._pulls and (self._again or self._new):
            pull = self._pulls[0]
            if pull.expires_at is not None and pull.expires_at <= now:
                self._end(self._pulls.popleft(), "408 Request Timeout")
            elif not self._deliver(pull, now):
                self._pulls.popleft()  # nobody listens there any more
            elif pull.left == 0:
                self._pulls.popleft()
        for pull in list(self._pulls):
            if pull.is_no_wait:
                self._pulls.remove(pull)
                self._end(pull, "404 No Messages")
            elif pull.expires_at is not None and pull.expires_at <= now:
                self._pulls.remove(pull)
                self._end(pull, "408 Request Timeout")
            elif pull.heartbeat_s and pull.quiet_since + pull.heartbeat_s <= now:
                pull.quiet_since = now
                self._end(pull, "100 Idle Heartbeat")

    def _take_back(self, now: float) -> None:
        for seq in [seq for seq, (_, until) in self._pending.items() if until <= now]:
            del self._pending[seq]
            self._again.append(seq)
        for seq in [seq for seq, at in self._late.items() if at <= now]:
            del self._late[seq]
            self._again.append(seq)

    def next_at(self) -> float | None:
        """When `serve` has something to do."""
        instants = [*self._late.values()]
        if self._pending:
            instants += [until for _, until in self._pending.values()]
        for pull in self._pulls:
            if pull.expires_at is not None:
                instants.append(pull.expires_at)
            if pull.heartbeat_s:
                instants.append(pull.quiet_since + pull.heartbeat_s)
        return min(instants, default=None)

    def answer(self, seq: int, word: bytes, now: float) -> None:
        """`+ACK`, `-NAK` or `+WPI` for a delivered message."""
        if word.startswith(b"+WPI"):
            if seq in self._pending:
                self._pending[seq] = (self._pending[seq][0], now + self.ack_wait_s)
            return
        if word.startswith(b"-NAK"):
            if self._pending.pop(seq, None) is not None:
                delay = json.loads(word[4:]).get("delay", 0) / NS if word[4:].strip() else 0.0
                self._late[seq] = now + delay
            return
        self._pending.pop(seq, None)
        self._late.pop(seq, None)
        if seq in self._again:
            self._again.remove(seq)

    def restart(self) -> None:
        """The server is back: whatever was not answered comes again at once, whoever works on it."""
        self._pulls.clear()
        self._again = deque(sorted({*self._pending, *self._late, *self._again}))
        self._pending.clear()
        self._late.clear()

    def cut(self, end: int) -> None:
        """The stream ends earlier than this consumer knows: so does its own state."""
        self._new = deque(seq for seq in self._new if seq <= end)
        self._again = deque(seq for seq in self._again if seq <= end)
        for kept in (self._pending, self._late, self._counts):
            for seq in [seq for seq in kept if seq > end]:
                del kept[seq]
        self.delivered = min(self.delivered, end)

    def delete(self) -> None:
        """It is gone: those who wait are told."""
        while self._pulls:
            self._end(self._pulls.popleft(), "409 Consumer Deleted")

    def drop_pulls(self, is_gone: Callable[[str], bool]) -> None:
        """Forgets requests of clients that are gone."""
        self._pulls = deque(pull for pull in self._pulls if not is_gone(pull.reply))

    def _deliver(self, pull: Pull, now: float) -> bool:
        is_again = bool(self._again)
        seq = self._again[0] if is_again else self._new[0]
        kept = self.stream.messages[seq - 1]
        count = self._counts.get(seq, 0) + 1
        place = (
            f"{count}.{seq}.{self._delivered_count + 1}.{kept.at_ns}.{max(0, len(self._new) - 1)}"
        )
        reply = f"$JS.ACK.{self.stream.name}.{self.name}.{place}"
        if not self._tell(pull.reply, kept.subject, reply, b"", kept.data):
            return False
        (self._again if is_again else self._new).popleft()
        self._delivered_count += 1
        self.delivered = max(self.delivered, seq)
        pull.left -= 1
        pull.quiet_since = now
        if self.is_acking:
            self._counts[seq] = count
            self._pending[seq] = (count, now + self.ack_wait_s)
        return True

    def _end(self, pull: Pull, status: str) -> None:
        self._tell(pull.reply, pull.reply, "", f"NATS/1.0 {status}\r\n\r\n".encode(), b"")
