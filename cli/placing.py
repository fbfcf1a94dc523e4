"""The options that say where a task shall run; `submit`, `map` and `run` share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fleetlog.bus.submit_options import SubmitOptions
from fleetlog.cli.inputs import labels_of
from fleetlog.schemas.errors import InvalidInput

RequiresOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Only agents with this label (host, os, version, executor.claude=yes, or their --label) run it;"
        " may be repeated.",
    ),
]
AffinityOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Run it on the host where the last task with this key ran, if an agent is there.",
    ),
]
AffinityWaitOption = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="How long it waits for that host; then any agent may run it.",
        show_default="30s",
    ),
]


def placing_options(
    *, requires: Sequence[str] | None, affinity: str | None, affinity_wait: str | None
) -> SubmitOptions:
    """What was said, as the client takes it.

    Raises:
        InvalidInput: a requirement is no name and value, or the wait has nothing to belong to.
    """
    options = SubmitOptions()
    if requires:
        options["requires"] = labels_of(requires, "requirement")
    if affinity is not None:
        options["affinity"] = affinity
    if affinity_wait is not None:
        if affinity is None:
            raise InvalidInput("--affinity-wait goes with --affinity: give both, or neither")
        options["affinity_wait"] = affinity_wait
    return options
