"""The options that say when a schedule's tasks are made."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from fleetlog.bus.schedules import Wanted
from fleetlog.cli.grouping import Group
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec


class ScheduleRule(Group, frozen=True, kw_only=True):
    """A cron text in a zone, or an interval."""

    cron: Annotated[
        str | None,
        typer.Option(
            metavar="CRON",
            help='Five fields: minute, hour, day of the month, month, day of the week; "*/5 9-17 * * mon-fri".',
        ),
    ] = None
    zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="The time zone of --cron by its IANA name, such as Europe/Berlin.",
            show_default="UTC",
        ),
    ] = None
    every: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Instead of --cron: one each so long, from now on."),
    ] = None
    overlap: Annotated[
        str,
        typer.Option(metavar="HOW", help="allow, or skip: none while the one before goes on."),
    ] = "allow"

    def wanted(self, spec: TaskSpec) -> Wanted:
        """The schedule of such tasks.

        Raises:
            InvalidInput: a word is not known, or an interval has a zone.
        """
        if self.zone is not None and self.cron is None:
            raise InvalidInput("--zone goes with --cron: an interval is the same in every zone")
        return Wanted(
            spec=spec,
            cron=self.cron,
            every_ms=parse_duration(self.every, "every") if self.every is not None else None,
            zone=self.zone if self.zone is not None else "UTC",
            overlap=_overlap_of(self.overlap),
        )


def _overlap_of(text: str) -> Literal["allow", "skip"]:
    if text == "allow":
        return "allow"
    if text == "skip":
        return "skip"
    raise InvalidInput(f"overlap {text!r} is not one of allow, skip")
