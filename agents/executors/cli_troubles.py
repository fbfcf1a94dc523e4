"""What the words of an error tell: is the credential in trouble, or the service, and until when. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from fleetlog.schemas.events import ErrorClass


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_STATUS: Final = r"(?:http|status|code|error)\W{0,4}(?:code\W{0,3})?"

# The first that fits counts. CLIs word these in many ways, and differently from release to release.
_TROUBLES: Final[Mapping[ErrorClass, re.Pattern[str]]] = {
    "billing": _words(
        r"credit balance is too low", r"insufficient[_ ](?:quota|funds)", r"payment required"
    ),
    "usage_limit": _words(
        r"(?:hit|reached|exceeded) your .{0,40}limit",
        *(r"usage limit reached", r"out of extra usage", r"quota exceeded"),
        r"exhausted your .{0,40}quota",
    ),
    "auth": _words(
        *(r"not logged in", r"please run /login", r"login required", r"unauthori[sz]ed"),
        *(r"invalid (?:x-)?api[- _]?key", _STATUS + r"40[13]\b", r"set an auth method"),
        *(r"authentication[_ ](?:failed|error|required)", r"token (?:has )?expired"),
        r"api[_ ]key.{0,30}(?:not set|missing|invalid)",
    ),
    "throttled": _words(
        *(r"rate[- _]?limit", r"too many requests", _STATUS + r"429\b", r"\(429\)"),
        r"resource_exhausted",
    ),
    "transient": _words(
        *(r"overloaded", _STATUS + r"5\d\d\b", r"service unavailable", r"internal server error"),
        *(
            r"connection (?:error|reset|refused)",
            r"network error",
            r"\becon[nr]",
            r"socket hang up",
        ),
        r"request timed out",
    ),
}


def trouble_in(text: str) -> ErrorClass | None:
    """What the text of an error tells about credential or service; None if nothing."""
    return next((kind for kind, pattern in _TROUBLES.items() if pattern.search(text)), None)


_RESETS: Final = re.compile(
    r"(?:resets|try again)\s+(?:at\s+)?(\d{1,2})(?::(\d\d))?\s*([ap]m)(?:\s*\(([A-Za-z_/+\-0-9]{1,40})\))?",
    re.IGNORECASE,
)
_RESETS_EPOCH: Final = re.compile(r"limit reached\|(\d{10,13})")


def reset_in(text: str, now: datetime) -> datetime | None:
    """The instant that a text such as `resets 6:45am (UTC)` means; None if it names none."""
    if found := _RESETS_EPOCH.search(text):
        return instant_of(int(found[1]))
    found = _RESETS.search(text)
    if found is None:
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if not 1 <= hour <= 12 or minute > 59:
        return None
    try:
        zone: tzinfo = ZoneInfo(found[4]) if found[4] else UTC
    except (OSError, ValueError, KeyError):
        zone = UTC
    hour = hour % 12 + (12 if found[3].lower() == "pm" else 0)
    local = now.astimezone(zone)
    at = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (at if at > local else at + timedelta(days=1)).astimezone(UTC)


def instant_of(value: object) -> datetime | None:
    """An instant from seconds or milliseconds since 1970; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e14:
        return None
    return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
