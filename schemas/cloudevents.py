"""Events of the log as CloudEvents 1.0 in structured JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from fleetlog.schemas.envelope import Recorded, Stored, UnknownEvent
from fleetlog.schemas.events import type_of
from fleetlog.schemas.jsonschema import schema_id

_SEQUENCE_DIGITS = 20
"""Of the largest sequence that a stream can have: the attribute must sort as text."""


def cloud_event(
    fleet: str, stored: Stored, record: Recorded, data: msgspec.Raw | None
) -> dict[str, Any]:
    """One message of the log, whose time is the server's and whose subject is the NATS subject.

    Args:
        fleet: the source is `urn:fleetlog:<fleet>`.
        stored: the message.
        record: the same, opened.
        data: the payload as JSON on one line; None when it is not JSON, it then stands there in base64.

    Returns:
        The attributes of the specification, and the extensions `sequence` (its place in the log, 20 digits)
        and, where this version can't read the event, `problem`.
    """
    event = record.event
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": "",
        "source": f"urn:fleetlog:{fleet}",
        "type": "",
        "time": stored.stored_at,
        "subject": stored.subject,
        "sequence": f"{stored.seq:0{_SEQUENCE_DIGITS}}",
    }
    if isinstance(event, UnknownEvent):
        # Its own id can't be trusted to be there; its place in the log is unique as well.
        attributes |= {"id": f"seq-{stored.seq}", "type": event.type or "unreadable"}
        attributes["problem"] = event.why
    else:
        attributes |= {"id": event.id, "type": type_of(event)}
        attributes["dataschema"] = schema_id(type_of(event))
    if data is None:
        return attributes | {
            "datacontenttype": "application/octet-stream",
            "data_base64": stored.data,
        }
    return attributes | {"datacontenttype": "application/json", "data": data}
