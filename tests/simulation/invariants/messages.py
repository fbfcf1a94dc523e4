"""A message of the log, what it says, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

VERBS: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(verbs.split())
    for kind, verbs in {
        "task": "held queued claimed retried returned completed failed cancelled expired"
        " cancel_requested",
        "barrier": "opened released abandoned",
        "limit": "set admitted",
        "budget": "set exhausted",
        "schedule": "set removed paused resumed",
        "queue": "paused resumed scaled derived",
        "credential": "paused resumed",
        "agent": "started draining strained recovered stopped lost",
        "worker": "spawned exited refused",
    }.items()
}
_TOKENS: Final = {"task": 7, "worker": 6}
"""How many tokens a subject of these has; of all others five."""
_PRIORITIES: Final = frozenset({"high", "normal", "low"})


class Message(NamedTuple):
    """One stored message."""

    seq: int
    """Its place in the log, from 1."""
    at_ns: int
    """When the server stored it, in nanoseconds since 1970."""
    subject: str
    """As published."""
    data: bytes
    """The payload."""


class Violation(NamedTuple):
    """Something that must not be."""

    rule: str
    """A key of `RULES`."""
    seq: int
    """The event that showed it; the last one of all for what is missing at the end."""
    text: str
    """One plain sentence with ids and sequences."""


class Tolerance(NamedTuple):
    """What a run may be forgiven. Durations are milliseconds."""

    skew_ms: int = 0
    """How far a writer's idea of the log's time may be off: so much too early something may happen."""
    lag_ms: int = 10_000
    """How long a coordinator may still act on what it had read before, where no guard stops it."""
    stuck_ms: int = 60_000
    """An offer that has stood for so long may be made anew, as nobody seems to have it."""
    bereft: frozenset[str] = frozenset()
    """Things of which the log has lost events, with its server's last second. An agent of them may end without
    a start, and tell of claims that are not there; what a barrier of them named may be there without it, a
    task that a schedule of them made without its rule, an offer without what lets it in under a limit."""


class Entry(NamedTuple):
    """A message that could be read."""

    seq: int
    at_us: int
    """When it was stored, in microseconds since 1970."""
    kind: str
    id: str
    """The thing's id, as it stands in the subject."""
    verb: str
    event: dict[str, Any]
    """Without fields that have their default."""
    lane: tuple[str, str] | None
    """Queue and priority in the subject, of tasks."""
    fleet: str


Report = Callable[[str, int, str], None]
"""Takes a rule, a sequence and a text."""

_decode: Final = msgspec.json.Decoder().decode


def read(message: Message) -> Entry | str:
    """What the message says, or why it can't be read."""
    seq, at_ns, subject, data = message
    tokens = subject.split(".")
    lane = None
    kind = tokens[2] if len(tokens) > 2 else ""
    if len(tokens) != _TOKENS.get(kind, 5) or tokens[0] != "fleetlog":
        return f"the subject {subject} is not in the grammar"
    if kind == "task":
        lane = (tokens[4], tokens[5])
        if tokens[5] not in _PRIORITIES:
            return f"the subject {subject} has no such priority"
    fleet, thing_id, verb = tokens[1], tokens[3], tokens[-1]
    if verb not in VERBS.get(kind, ()) or "" in tokens:
        return f"the subject {subject} is not in the grammar"
    try:
        event = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"the payload under {subject} is not JSON"
    if not isinstance(event, dict) or event.get("type") != f"{kind}.{verb}":
        return f"the payload under {subject} is not an event of that type"
    if event.get("v") != 1 or not event.get("id") or not event.get("occurred_at"):
        return f"the event under {subject} lacks its id, its writer's time or its version"
    return Entry(seq, at_ns // 1000, kind, thing_id, verb, event, lane, fleet)


def instant_us(text: str) -> int:
    """An instant as events write it, in microseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def instant(at_us: int) -> datetime:
    """The other way round, in UTC."""
    return _EPOCH + timedelta(microseconds=at_us)
