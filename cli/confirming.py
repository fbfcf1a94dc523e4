"""Asking before much is changed, and showing how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from fleetlog.cli.failures import REFUSED, say
from fleetlog.schemas.errors import InvalidInput


def confirm(what: str, *, is_sure: bool) -> None:
    """Asks on a terminal, unless `--yes` was said.

    Args:
        what: such as `cancel 312 tasks`.
        is_sure: `--yes`.

    Raises:
        InvalidInput: there is nobody to ask.
        typer.Exit: the answer was no.
    """
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(
            f"this would {what}: look at them with --dry-run, then say --yes, as there is no terminal to ask on"
        )
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        say("nothing was changed")
        raise typer.Exit(REFUSED)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A line on stderr that counts to `total`, where someone looks on; gives what counts one more."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich, only where someone looks on
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    columns = (SpinnerColumn("dots"), TextColumn("{task.description}"), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task(what, total=total)
        yield lambda: progress.advance(line)
