"""The last to leave an `--ephemeral` fleet: if its `up` is killed, stops the server and removes the folder.

Run as a role (`python -m fleetlog.cli.cleaner`); after a stop in order there is nothing left for it to do.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.files import is_held
from fleetlog.bus.embedded.orphan import find_orphan, stop_orphan
from fleetlog.bus.settings import load_settings
from fleetlog.bus.system import Clock, SystemClock
from fleetlog.cli.lifeline import watch_lifeline


async def clean_after(data: Path, lifeline_fd: int | None, clock: Clock) -> None:
    """Waits for the end of `up`; returns without having touched anything on SIGTERM."""
    is_cut, over = False, asyncio.Event()

    def note_cut() -> None:
        nonlocal is_cut
        is_cut = True
        over.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(watch_lifeline(lifeline_fd, note_cut))
        await over.wait()
        watch.cancel()
    if is_cut:
        folder = Folder(data)
        if is_held(folder.lock):
            await stop_orphan(folder, await find_orphan(folder, clock), clock)
        shutil.rmtree(data, ignore_errors=True)


def main() -> None:
    """Cleans up after the fleet that the environment names."""
    settings = load_settings()
    asyncio.run(clean_after(settings.data, settings.lifeline_fd, SystemClock()))


if __name__ == "__main__":
    main()
