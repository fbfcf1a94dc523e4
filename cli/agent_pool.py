"""The options that say how much an agent runs, and how long what shall stop gets."""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec
import typer

from fleetlog.agents.agent_options import AgentOptions
from fleetlog.cli.grouping import Group
from fleetlog.cli.pool_options import (
    ReserveOption,
    WorkersOption,
    check_reserve,
    shares_of,
    workers_of,
)
from fleetlog.schemas.durations import parse_duration

DRAIN_DEFAULT: Final = "30s"


class AgentPool(Group, frozen=True, kw_only=True):
    """Which queues an agent serves, with how many workers."""

    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUEUE[:max=K][,weight=W]",
            help="A queue to serve; may be repeated. max: at most K of its tasks at once here; weight: its"
            " share of the starts when several queues wait.",
            show_default="default",
        ),
    ] = None
    workers: WorkersOption = None
    shrink_after: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="With MIN-MAX, a worker with nothing to do for so long ends."
        ),
    ] = "60s"
    concurrency: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Async handlers that run at once in each worker."),
    ] = 1
    reserve_high: ReserveOption = 0

    def applied(self, options: AgentOptions) -> AgentOptions:
        """The agent's options with what these say.

        Raises:
            InvalidInput: a number, a queue or a time is none, or the reserve leaves nothing.
        """
        shares = shares_of(self.queue)
        least, most = workers_of(self.workers or str(os.cpu_count() or 1))
        return msgspec.structs.replace(
            options,
            queues=tuple(shares),
            shares=shares,
            workers=least,
            workers_max=most,
            idle_s=parse_duration(self.shrink_after, "shrink-after") / 1000,
            concurrency=self.concurrency,
            reserve_high=check_reserve(self.reserve_high, most or least, self.concurrency),
        )


class Patience(Group, frozen=True, kw_only=True):
    """How long what shall stop gets."""

    drain: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="How long running tasks get when it is told to stop."
        ),
    ] = DRAIN_DEFAULT
    grace: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How long a program that shall stop gets: SIGINT, after two thirds SIGTERM, then SIGKILL.",
        ),
    ] = "15s"

    def drain_s(self) -> float:
        """Of running tasks, when the agent stops.

        Raises:
            InvalidInput: it is no duration.
        """
        return parse_duration(self.drain, "drain") / 1000

    def stop_s(self) -> float:
        """Of a program.

        Raises:
            InvalidInput: it is no duration.
        """
        return parse_duration(self.grace, "grace") / 1000
