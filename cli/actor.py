"""Who acts, where a person does."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is recorded.")
]


def actor() -> str | None:
    """The name of whoever runs this command; None where the machine does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
