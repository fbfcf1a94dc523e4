"""Exit codes, and how an error becomes one line for a person.

0 ok · 1 refused, or the task did not complete · 2 usage · 3 bus unreachable · 4 timed out
"""

from __future__ import annotations

import logging
from typing import Final

import typer

from fleetlog.bus.errors import (
    ConfigError,
    FleetlogError,
    LogBrimful,
    PublishUnknown,
    TransportError,
)
from fleetlog.schemas.errors import InvalidInput

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
TIMED_OUT: Final = 4
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""

_logger = logging.getLogger("fleetlog.cli")


def exit_code_of(error: FleetlogError | InvalidInput) -> int:
    """What a script learns from the error."""
    match error:
        case InvalidInput() | ConfigError():
            return USAGE
        case PublishUnknown():
            return TIMED_OUT
        case LogBrimful():
            return REFUSED
        case TransportError():
            return UNREACHABLE
        case _:
            return REFUSED


def report(error: FleetlogError | InvalidInput) -> int:
    """Writes the error on stderr, with -v its traceback before it; answers the exit code."""
    _logger.debug("the error below came from here", exc_info=error)
    say(f"Error: {error}")
    return exit_code_of(error)


def say(text: str) -> None:
    """One message for people, on stderr: stdout stays for data."""
    typer.echo(text, err=True)
