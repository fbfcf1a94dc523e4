"""An append on the wire: the server's check in its headers, and what the answers mean."""

from __future__ import annotations

import re
from math import inf
from typing import Final

import msgspec

from fleetlog.bus.errors import LogBrimful, TransportError
from fleetlog.bus.jetstream.connection import ApiError, ApiRefusal, Connection
from fleetlog.bus.log import Append

HEADER_MAX_BYTES: Final = 2048
"""What the headers of an append may need of the server's limit for a message."""

CONFLICTS: Final = frozenset({10071, 10164})
"""Another event stands where this one was to be, or the same may; the log tells which."""
_NOT_STORED: Final = 10077
_NO_ROOM: Final = "maximum bytes exceeded"
_LAST: Final = re.compile(r"wrong last sequence: (\d+)")
_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
_GUARD: Final = "Nats-Expected-Last-Subject-Sequence-Subject"


class Ack(msgspec.Struct, frozen=True):
    """The server's answer to an append."""

    seq: int = 0
    error: ApiError | None = None


def refusal_of(error: ApiError, stream: str) -> TransportError:
    """What the server's answer to an append means, unless it is a conflict; nothing was stored."""
    if error.err_code == _NOT_STORED and error.description == _NO_ROOM:
        return LogBrimful(
            "the log is full to the brim and takes no event at all: raise its limit with"
            f" `nats stream edit {stream} --max-bytes`; what waits goes on then"
        )
    return ApiRefusal(error)


def check_size(entry: Append, connection: Connection) -> None:
    """Refuses what is too large for a message: the server would close the connection at it.

    Raises:
        TransportError: says how large it is.
    """
    limit = connection.client.max_payload - HEADER_MAX_BYTES
    if len(entry.data) > limit:
        raise TransportError(
            f"the event has {len(entry.data)} bytes, the server takes {limit} in one message:"
            " make the arguments or the result smaller"
        )


def occ_header(entry: Append) -> str:
    """The header lines by which the server checks an append."""
    return f"{_SEQUENCE}: {entry.expected}\r\n{_GUARD}: {entry.guard}\r\n"


def last_of(error: ApiError) -> float:
    """The guard's last sequence, as the server tells it with a refusal; infinite where it does not."""
    found = _LAST.search(error.description)
    return int(found[1]) if found else inf
