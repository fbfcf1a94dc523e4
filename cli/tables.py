"""Rows as a table: with lines and colours on a terminal, as aligned plain text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from fleetlog.cli.rendering import aligned, json_text, one_line, shortened

CELL_MAX = 200
"""In a pipe too: one long cell would push everything else out of sight."""


def write_table(names: Sequence[str], rows: Sequence[Sequence[object]], *, null: str = "-") -> None:
    """Writes a table on stdout; what is not text is written as JSON."""
    texts = [[_cell(value, null) for value in row] for row in rows]
    if sys.stdout.isatty():
        _write_rich(names, texts, rows)
    else:
        typer.echo(aligned(names, texts))


def _cell(value: object, null: str) -> str:
    if value is None:
        return null
    return shortened(one_line(value if isinstance(value, str) else json_text(value)), CELL_MAX)


def _write_rich(
    names: Sequence[str], texts: Sequence[Sequence[str]], rows: Sequence[Sequence[object]]
) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - rich, only where someone looks on
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(names):
        is_number = any(_is_number(row[index]) for row in rows)
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
