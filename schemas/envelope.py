"""How events are written and read: bytes and events, with upcasts and with what can't be understood kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import SCHEMA_VERSION, AnyEvent, Event
from fleetlog.schemas.subjects import Subject, parse_subject

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the fields of one event of version n into those of version n + 1."""

UPCASTS: Final[Mapping[tuple[str, int], Upcast]] = {}
"""By event type and the version it was written in."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One message of the log as the server keeps it."""

    seq: int
    """Its place in the log, from 1."""
    stored_at_ns: int
    """When the server stored it, in nanoseconds since 1970: the event's time."""
    subject: str
    """As published."""
    data: bytes
    """The payload as written."""

    @property
    def stored_at(self) -> datetime:
        """`stored_at_ns` as an aware instant, to the microsecond."""
        return instant_of(self.stored_at_ns)


class UnknownEvent(msgspec.Struct, frozen=True):
    """A message that this version can't read; it is kept, counted and shown, never guessed at."""

    type: str | None
    """Its type, if that much could be read."""
    why: str
    """What was wrong."""


class Recorded(msgspec.Struct, frozen=True):
    """An event in its place in the log."""

    seq: int
    """Its place in the log."""
    stored_at: datetime
    """The server's time for it."""
    subject: Subject | None
    """What it speaks of; None when the subject is not in the grammar."""
    event: AnyEvent | UnknownEvent
    """What happened."""


_decoder: Final[msgspec.json.Decoder[AnyEvent]] = msgspec.json.Decoder(AnyEvent)
_encoder: Final = msgspec.json.Encoder()

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes from outside; the last one when they nest deeper than the stack allows."""

_UPCAST_FAILED: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What an upcast raises on an old event that is not what its version promised."""


def instant_of(at_ns: int) -> datetime:
    """Nanoseconds since 1970 as an aware instant, to the microsecond."""
    return _EPOCH + timedelta(0, 0, at_ns // 1000)


def encode(event: Event) -> bytes:
    """The event as one JSON object."""
    return _encoder.encode(event)


def decode(
    data: bytes, upcasts: Mapping[tuple[str, int], Upcast] = UPCASTS
) -> AnyEvent | UnknownEvent:
    """Reads one event, of this version or an older one; never raises."""
    try:
        event = _decoder.decode(data)
    except _UNREADABLE as error:
        return _decode_slowly(data, upcasts, str(error))
    if event.v == SCHEMA_VERSION:
        return event
    return _decode_slowly(data, upcasts, f"schema version {event.v} is not known")


def open_stored(stored: Stored) -> Recorded:
    """Parses a stored message; never raises."""
    subject: Subject | None
    try:
        subject = parse_subject(stored.subject)
    except InvalidInput as error:
        return Recorded(stored.seq, stored.stored_at, None, UnknownEvent(None, str(error)))
    return Recorded(stored.seq, stored.stored_at, subject, decode(stored.data))


def _decode_slowly(
    data: bytes, upcasts: Mapping[tuple[str, int], Upcast], why: str
) -> AnyEvent | UnknownEvent:
    try:
        fields = msgspec.json.decode(data)
    except _UNREADABLE as error:
        return UnknownEvent(None, f"not JSON: {error}")
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        return UnknownEvent(None, "not an event: a JSON object with a type was expected")
    event_type = fields["type"]
    try:
        fields = _upcast(fields, upcasts)
    except _UPCAST_FAILED as error:
        return UnknownEvent(event_type, f"its upcast failed: {error!r}")
    if fields.get("v", SCHEMA_VERSION) != SCHEMA_VERSION:
        return UnknownEvent(event_type, why)
    try:
        # Through JSON once more, so that raw fields (arguments, results) are read the same way.
        return _decoder.decode(msgspec.json.encode(fields))
    except (*_UNREADABLE, TypeError, ValueError) as error:
        return UnknownEvent(event_type, str(error))


def _upcast(fields: dict[str, Any], upcasts: Mapping[tuple[str, int], Upcast]) -> dict[str, Any]:
    version = fields.get("v", SCHEMA_VERSION)
    while isinstance(version, int) and (step := upcasts.get((fields["type"], version))) is not None:
        version += 1
        fields = {**step(fields), "v": version}
    return fields
