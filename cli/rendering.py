"""JSON for programs; lines and aligned columns for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import typer

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    9: " ",
    10: " ",
    13: "",
}


def write_json(value: object) -> None:
    """The one object or array that a program reads."""
    typer.echo(json_text(value))


def json_text(value: object) -> str:
    """JSON on one line."""
    return msgspec.json.encode(value, enc_hook=str).decode()


def one_line(text: object) -> str:
    """A text from outside as one line without anything that moves a terminal's cursor."""
    return str(text).strip().translate(_CONTROLS)


def printable(text: str) -> str:
    """A text from outside with its lines, but without anything else that moves a terminal's cursor."""
    return "\n".join(line.translate(_CONTROLS) for line in text.rstrip().split("\n"))


def shortened(text: str, width: int) -> str:
    """At most `width` characters."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def instant_text(instant: datetime | None) -> str:
    """An instant in UTC, to the millisecond."""
    if instant is None:
        return "-"
    return instant.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")[:23] + "Z"


def aligned(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns with two spaces between them, as wide as their widest cell."""
    widths = [
        max(len(name), *(len(row[index]) for row in rows), 0) if rows else len(name)
        for index, name in enumerate(names)
    ]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (names, *rows)
    ]
    return "\n".join(lines)
