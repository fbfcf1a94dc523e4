"""`fleetlog bench`: how fast this machine is, as ratios to something real in the same run."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.settings import Durability, Settings
from fleetlog.cli.benchmarks.admission import measure_admission
from fleetlog.cli.benchmarks.appending import measure_appends
from fleetlog.cli.benchmarks.barriers import measure_barriers
from fleetlog.cli.benchmarks.figures import Figure
from fleetlog.cli.benchmarks.parallel import SHAPES, measure_parallel
from fleetlog.cli.benchmarks.reading import measure_reading
from fleetlog.cli.benchmarks.restarting import measure_restart
from fleetlog.cli.benchmarks.tasks import measure_coordinator, measure_idle, measure_tasks
from fleetlog.cli.connection import run
from fleetlog.cli.failures import REFUSED, say
from fleetlog.cli.rendering import write_json
from fleetlog.schemas.errors import InvalidInput

Part = Literal["append", "tasks", "read", "parallel", "barriers", "admission", "restart", "idle"]
PARTS: tuple[Part, ...] = (
    "append",
    "tasks",
    "read",
    "parallel",
    "barriers",
    "admission",
    "restart",
    "idle",
)
ONLY: dict[Part, Durability] = {
    "read": "relaxed",
    "parallel": "always",
    "restart": "relaxed",
    "idle": "always",
}
"""Parts that the durability mode makes no difference to are measured in one."""
EVENTS_DEFAULT = 100_000
TASKS_DEFAULT = 30_000


def bench(
    *,
    part: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[append|tasks|read|parallel|barriers|admission|restart|idle]…",
            help="What to measure; default: all.",
        ),
    ] = None,
    events: Annotated[
        int, typer.Option(min=2_000, metavar="N", help="Events for append and read.")
    ] = EVENTS_DEFAULT,
    tasks: Annotated[
        int, typer.Option(min=1_000, metavar="N", help="Tasks for each run of tasks.")
    ] = TASKS_DEFAULT,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if a bar is not reached.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One array of objects.")] = False,
) -> None:
    """Measure this machine: appends, whole lives of tasks, reading, how many work at once, and an idle agent.

    Starts servers of its own on temporary folders and touches no fleet. Every figure stands with the
    durability mode it was measured in and with a ratio to something real in the same run: figures of
    different machines, or of one machine on different days, do not compare.

    Example: fleetlog bench append tasks --tasks 10000
    """
    unknown = set(part or ()) - set(PARTS)
    if unknown:
        raise InvalidInput(
            f"there is nothing to measure called {min(unknown)!r}: use {', '.join(PARTS)}"
        )
    wanted = tuple(each for each in PARTS if not part or each in part)
    try:
        figures = run(_measure(wanted, events, tasks, is_quiet=as_json))
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    if as_json:
        write_json([msgspec.structs.asdict(f) | {"is_reached": f.is_reached} for f in figures])
    if strict and any(figure.is_reached is False for figure in figures):
        raise typer.Exit(REFUSED)


async def _measure(
    wanted: tuple[Part, ...], events: int, tasks: int, *, is_quiet: bool
) -> list[Figure]:
    # Its servers and roles end with it.
    measuring = asyncio.current_task()
    assert measuring is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    figures: list[Figure] = []
    for durability in ("relaxed", "always"):
        with tempfile.TemporaryDirectory(prefix="fleetlog-bench-") as folder:
            settings = Settings(data=Path(folder) / "data", durability=durability)
            async with EmbeddedServer(settings) as server:
                async for figure in _measure_on(server, durability, wanted, events, tasks):
                    figures.append(figure)
                    if not is_quiet:
                        typer.echo(line_of(figure))
    return figures


async def _measure_on(
    server: EmbeddedServer,
    durability: Durability,
    wanted: tuple[Part, ...],
    events: int,
    tasks: int,
) -> AsyncIterator[Figure]:
    at = (server.target, server.data)
    measurements = {
        "append": [partial(measure_appends, server.target, "append", events)],
        "tasks": [
            partial(measure_tasks, *at, f"tasks-{is_whole}", tasks, is_whole=is_whole)
            for is_whole in (False, True)
        ],
        "read": [partial(measure_reading, *at, "read", events)],
        "parallel": [partial(measure_parallel, *at, *shape) for *shape, _ in SHAPES],
        "barriers": [partial(measure_barriers, *at, "barriers")],
        "admission": [partial(measure_admission, *at, "admission")],
        "restart": [partial(measure_restart, *at, "restart", events)],
        "idle": [partial(measure_idle, *at, "idle"), partial(measure_coordinator, *at, "steady")],
    }
    for part in wanted:
        if ONLY.get(part, durability) != durability:
            continue
        for measure in measurements[part]:
            say(f"{part}, {durability} …")
            for figure in await measure():
                yield figure


def line_of(figure: Figure) -> str:
    """The figure as a line of text."""
    value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.2f}"
    text = f"{figure.durability:8} {figure.what}: {value} {figure.unit}"
    if figure.ratio is not None:
        text += f", {figure.ratio:.2f} of {figure.baseline}"
    if figure.bar is not None:
        kind = "at most" if figure.is_most else "at least"
        verdict = "reached" if figure.is_reached else "NOT REACHED"
        text += f" [{kind} {figure.bar:g}: {verdict}]"
    return text
