"""What one look of `fleetlog doctor` found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from fleetlog.cli.rendering import one_line

Level = Literal["ok", "warning", "error"]


class Check(msgspec.Struct, frozen=True):
    """One look."""

    name: str
    """What was looked at; stays the same, for scripts."""
    level: Level
    """`ok`, `warning` (it works, but look at it) or `error` (it does not)."""
    found: str
    """What there is."""
    advice: str | None = None
    """What to do; None when there is nothing to do."""


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Check:
    """It works, but."""
    return Check(name, "warning", found, advice)


def error(name: str, found: str, advice: str) -> Check:
    """It does not work."""
    return Check(name, "error", found, advice)


def describe_checks(checks: Sequence[Check]) -> str:
    """A line for each, and another one with what to do."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.level:7}  {check.name:{width}}  {one_line(check.found)}")
        if check.advice is not None:
            lines.append(f"{'':7}  {'':{width}}  -> {one_line(check.advice)}")
    counts = [f"{sum(check.level == level for check in checks)} {level}" for level in _LEVELS]
    return "\n".join([*lines, ", ".join(counts)])


_LEVELS: tuple[Level, ...] = ("ok", "warning", "error")


def size_text(size_bytes: float) -> str:
    """A size for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"
