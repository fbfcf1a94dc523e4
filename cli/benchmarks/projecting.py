"""A projector that reads a log to its end, and says how long it took and what memory it needed.

`python -m fleetlog.cli.benchmarks.projecting FOLDER`: a process of its own, so that the memory is its own too.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import uvloop

from fleetlog.bus.background import background
from fleetlog.bus.embedded.runtime import resolve_target
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.settings import load_settings
from fleetlog.projections.projector import Projector


async def project(folder: Path) -> tuple[float, float]:
    """Seconds, and the most memory in MB."""
    settings = load_settings()
    async with open_fleet(resolve_target(settings), settings.fleet, role="projector") as fleet:
        end = await fleet.log.end()
        projector = Projector(fleet.log, folder, system=fleet.system)
        started = time.perf_counter()
        async with background(projector.run()):
            await projector.reached(end)
            elapsed_s = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return elapsed_s, peak / (1000 if sys.platform == "linux" else 1_000_000)


if __name__ == "__main__":
    seconds, megabytes = uvloop.run(project(Path(sys.argv[1])))
    sys.stdout.write(f"{seconds} {megabytes}\n")
