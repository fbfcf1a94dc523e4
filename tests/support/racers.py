"""Programs that race as processes of their own: `python -m support.racers claim|submit …`."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from fleetlog.bus.client import Client
from fleetlog.bus.core import Claim, Refusal, Task, decide, evolve
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.errors import ConflictError, KeyTaken
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.log import entry
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.specs import TaskSpec
from support.targets import target_of


async def claim(target: Target, name: str) -> None:
    """For each line `SEQ` on stdin: claims that offer and prints `claimed` or `conflict`."""
    lines = await _stdin()
    async with open_fleet(target, name) as fleet:
        print("ready", flush=True)
        while line := await lines.readline():
            stored = await fleet.log.get(int(line))
            assert stored is not None
            record = open_stored(stored)
            assert record.subject is not None
            task = evolve(Task(id=record.subject.id), record)
            command = Claim(
                id=fleet.system.new_id(), offer=stored.seq, agent_id="a", worker_id="w", host="h"
            )
            event = decide(command, task, fleet.log.now())
            assert not isinstance(event, Refusal)
            print("armed", flush=True)
            await lines.readline()
            try:
                await fleet.log.append(entry(subject_of(name, task, event), task.version, event))
                print("claimed", flush=True)
            except ConflictError:
                print("conflict", flush=True)


async def submit(target: Target, name: str, key: str) -> None:
    """For each line of arguments on stdin: submits a task with the key and prints its id, or `taken`."""
    lines = await _stdin()
    async with open_fleet(target, name, patience_s=60) as fleet:
        print("ready", flush=True)
        while line := await lines.readline():
            spec = TaskSpec(handler="h", args=msgspec.Raw(line.strip()))
            try:
                print((await Client(fleet).submit(spec, key=key)).task_id, flush=True)
            except KeyTaken:
                print("taken", flush=True)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


if __name__ == "__main__":
    role, target, name, *rest = sys.argv[1:]
    racer = {"claim": claim, "submit": submit}[role]
    asyncio.run(racer(target_of(target), name, *rest))
