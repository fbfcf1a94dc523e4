"""Events of the log for programs and for people."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fleetlog.cli.rendering import instant_text, one_line, shortened
from fleetlog.schemas.envelope import Recorded, Stored, UnknownEvent, open_stored
from fleetlog.schemas.events import (
    Event,
    QueueDerived,
    ScheduleSet,
    TaskHeld,
    TaskQueued,
    WorkerRefused,
    type_of,
)
from fleetlog.schemas.requirements import requirements_text

_SHOWN: Final = (
    *("attempt", "attempts", "agent_id", "worker_id", "host", "pid", "exit_code", "signal"),
    *("ran_ms", "delay_ms", "silent_ms", "limit", "error_class", "error", "result"),
    *("expected", "settled", "succeeded", "why", "cron", "every_ms", "actor", "reason", "over"),
)
"""Fields that say most, in this order."""
_TEXT_MAX: Final = 80


def stored_fields(stored: Stored) -> dict[str, Any]:
    """An event as a program gets it: its place, its subject, and every field as it was written.

    An event that this version can't read has `unknown`, which says why, and `raw` if it is not even JSON.
    """
    record = open_stored(stored)
    fields: dict[str, Any] = {
        "seq": stored.seq,
        "stored_at": stored.stored_at,
        "subject": stored.subject,
    }
    if not isinstance(record.event, UnknownEvent):
        return {**fields, **msgspec.json.decode(stored.data)}
    return {**fields, "unknown": record.event.why, **_raw_fields(stored.data)}


def recorded_fields(record: Recorded) -> dict[str, Any]:
    """Like `stored_fields`, of an event that was opened already; an unknown one has its type alone."""
    fields: dict[str, Any] = {"seq": record.seq, "stored_at": record.stored_at}
    if isinstance(record.event, UnknownEvent):
        return {
            **fields,
            "occurred_at": record.stored_at,
            "type": record.event.type,
            "unknown": record.event.why,
        }
    event: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record.event))
    first = {name: event.pop(name) for name in ("occurred_at", "type")}
    return {**fields, **first, **event}


def stored_line(stored: Stored) -> str:
    """An event as one line: place, time, what, of whom, and what says most about it."""
    record = open_stored(stored)
    if isinstance(record.event, UnknownEvent):
        kind = one_line(record.event.type or "?")
        raw = shortened(one_line(stored.data.decode("utf-8", "replace")), 2 * _TEXT_MAX)
        about = f"unknown event ({one_line(record.event.why)}): {raw}"
        return f"{_place(record)}  {kind:<21}  {one_line(stored.subject)}  {about}"
    return f"{recorded_line(record)}"


def recorded_line(record: Recorded, *, has_thing: bool = True) -> str:
    """Like `stored_line`, of an event that was opened already."""
    if isinstance(record.event, UnknownEvent):
        kind = one_line(record.event.type or "?")
        return f"{_place(record)}  {kind:<21}  unknown event: {one_line(record.event.why)}"
    thing = ""
    if has_thing and record.subject is not None:
        thing = f"  {'/'.join(filter(None, (record.subject.id, record.subject.worker_id)))}"
    return (
        f"{_place(record)}  {type_of(record.event):<21}{thing}  {_summary(record.event)}".rstrip()
    )


def _place(record: Recorded) -> str:
    return f"{record.seq:>7}  {instant_text(record.stored_at)}"


def _summary(event: Event) -> str:
    words = []
    if isinstance(event, TaskHeld | TaskQueued | ScheduleSet):
        words.append(f"handler={one_line(event.spec.handler)}")
        words.append(f"queue={event.spec.queue}/{event.spec.priority}")
    if (fan_out := getattr(event, "fan_out", None)) is not None:
        words.append(f"members={fan_out.count} policy={fan_out.policy}")
        if fan_out.then is not None:
            words.append(f"then={fan_out.then.task_id}")
    if isinstance(event, QueueDerived):
        words.append(f"of={event.queue} requires={one_line(requirements_text(event.requires))}")
    if isinstance(event, WorkerRefused):
        words.append(f"task={event.task_id} would-be={event.verb}")
    for name in _SHOWN:
        value = getattr(event, name, None)
        if value is None or value == b"null":
            continue
        if isinstance(value, msgspec.Raw):
            value = bytes(value).decode("utf-8", "replace")
        words.append(f"{name}={shortened(one_line(value), _TEXT_MAX)}")
    return " ".join(words)


def _raw_fields(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"raw": data.decode("utf-8", "replace")}
