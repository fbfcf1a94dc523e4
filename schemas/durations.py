"""Durations as people write them: `250ms`, `30s`, `1h30m`, `2d`."""

from __future__ import annotations

import re

from fleetlog.schemas.errors import InvalidInput

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
DURATION_MAX_MS = 10 * 365 * _UNITS_MS["d"]


def parse_duration(text: str, what: str = "duration") -> int:
    """Milliseconds of a duration such as `1h30m`.

    Raises:
        InvalidInput: no unit, an unknown one, or longer than ten years.
    """
    text = text.strip().lower()
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidInput(
            f"{what} {text!r} is not a duration: write a number with ms, s, m, h or d,"
            " such as 30s or 1h30m"
        )
    total = round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))
    if total > DURATION_MAX_MS:
        raise InvalidInput(f"{what} {text!r} is longer than ten years")
    return total


def format_duration(ms: int) -> str:
    """The shortest exact text of a duration: `parse_duration` gives the same milliseconds back."""
    if ms == 0:
        return "0s"
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _UNITS_MS[unit])
        if count:
            text += f"{count}{unit}"
    return text
