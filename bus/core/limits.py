"""A limit: how many attempts may run at once under a key, and how often one may start.

The rate is a token bucket, kept as one instant: when the bucket will be full again. Source: the generic cell
rate algorithm, ITU-T I.371. All instants are the log's, so that every fold gives the same bucket.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import LimitAdmitted, LimitSet
from fleetlog.schemas.ids import KEY_LENGTH_MAX

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
FAMILY: Final = ":*"
"""A key that ends so is a setting for each key that begins like it."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit after `version`. Made by `evolve_limit` alone."""

    id: str
    """How its key stands in subjects."""
    key: str = ""
    """Which; empty until an event tells."""
    version: int = 0
    """Log sequence of its last event: what the next append must state."""
    setting: LimitSet | None = None
    """How it is set; None: it never was."""
    full_at: datetime = _LONG_AGO
    """When its bucket is full again."""


def evolve_limit(limit: Limit, record: Recorded, family: LimitSet | None = None) -> Limit:
    """The limit after `record`; what is not understood changes the version alone.

    Args:
        limit: before.
        record: one of its own events.
        family: the setting that holds for it as long as it has none of its own.
    """
    if record.seq <= limit.version:
        return limit
    limit = msgspec.structs.replace(limit, version=record.seq)
    match event := record.event:
        case LimitSet():
            return msgspec.structs.replace(limit, key=event.key, setting=event)
        case LimitAdmitted():
            full_at = max(limit.full_at, record.stored_at)
            return msgspec.structs.replace(
                limit,
                key=event.key,
                full_at=full_at + len(event.tasks) * _interval(limit.setting or family),
            )
        case _:
            return limit


def starts_left(limit: Limit, setting: LimitSet | None, now: datetime) -> int | None:
    """How many may start now as far as the rate goes; None: it bounds nothing."""
    if setting is None or setting.rate is None:
        return None
    missing = max(timedelta(), limit.full_at - now)
    return max(0, (_size(setting) - missing) // _interval(setting))


def starts_at(limit: Limit, setting: LimitSet, count: int) -> datetime:
    """When the rate lets so many start, if none starts meanwhile."""
    return limit.full_at - _size(setting) + count * _interval(setting)


def _interval(setting: LimitSet | None) -> timedelta:
    if setting is None or setting.rate is None:
        return timedelta()
    return timedelta(milliseconds=setting.per_ms) / setting.rate


def _size(setting: LimitSet) -> timedelta:
    return (setting.burst or setting.rate or 1) * _interval(setting)


def family_of(key: str) -> str | None:
    """The key whose setting holds for `key` too, such as `user:*` for `user:ann`."""
    name, colon, _ = key.partition(":")
    family = f"{name}{FAMILY}"
    is_one = colon and not key.endswith(FAMILY) and len(family) <= KEY_LENGTH_MAX
    return family if is_one else None
