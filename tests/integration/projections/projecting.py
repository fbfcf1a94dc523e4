"""A projector as a process of its own, over a log in memory; run it with `python -m`.

Arguments: the data folder, how many tasks the log holds, and `follow` or `stop`: whether it goes on after the
log's end. Prints a line when the database is open and one when the end is reached.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from fleetlog.bus.memory_log import MemoryLog
from fleetlog.projections.projector import Projector
from fleetlog.schemas.envelope import Stored
from tests.unit.projections.histories import FLEET, Log


class SlowLog(MemoryLog):
    """Hands its messages out a few at a time, so that there are many transactions."""

    async def follow(
        self, *, after: int = 0, subjects: str | None = None
    ) -> AsyncIterator[list[Stored]]:
        while after < len(self._messages):
            yield self._messages[after : after + 50]
            after += 50
            await asyncio.sleep(0.005)
        await asyncio.Event().wait()


async def main() -> None:
    folder, tasks, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    log = SlowLog(FLEET)
    log._messages += history(tasks).messages
    projector = Projector(log, folder)
    async with asyncio.TaskGroup() as group:
        group.create_task(projector.run())
        await projector.ready.wait()
        print("open", flush=True)
        await projector.reached(await log.end())
        print("done", flush=True)
        if mode == "stop":
            projector.stop()


def history(tasks: int) -> Log:
    log = Log()
    for number in range(tasks):
        log.run(f"t{number}")
    return log


if __name__ == "__main__":
    asyncio.run(main())
