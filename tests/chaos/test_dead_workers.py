"""Workers that are killed under their tasks, and how soon others take their place."""

from __future__ import annotations

import os
import signal
import time

import msgspec
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import Fleet
from fleetlog.schemas.events import TaskClaimed, WorkerSpawned
from fleetlog.schemas.specs import Backoff

WORKERS = 20 if os.environ.get("FLEETLOG_LONG") else 3


async def test_a_killed_worker_is_replaced_at_once(server: EmbeddedServer, fleet: str) -> None:
    """Every worker has a task that does not end, so that only a new worker can take a second attempt."""
    async with (
        Client.connect(target=server.target, fleet=fleet) as client,
        coordinator(server.target, fleet),
        agent(server.target, fleet, workers=WORKERS),
    ):
        spec = msgspec.structs.replace(call("nap", seconds=600.0), backoff=Backoff(first_ms=1))
        submitted = [await client.submit(spec) for _ in range(WORKERS)]
        await wait_for(client.fleet, "TaskClaimed", WORKERS)
        taken_s = [await _kill(client.fleet, each.task_id) for each in submitted]
        for each in submitted:
            await each.cancel()
    print(f"\n{WORKERS} kills: the task ran in a new worker after {max(taken_s):.2f} s at worst")
    assert max(taken_s) < 10


async def _kill(fleet: Fleet, task_id: str) -> float:
    """Kills the worker that runs the task; answers how long it took until a new one had the task."""
    spawned = {
        record.subject.worker_id: record.event.pid
        for record in await history(fleet, types=("WorkerSpawned",))
        if record.subject is not None and isinstance(record.event, WorkerSpawned)
    }
    [claimed] = await wait_for(fleet, "TaskClaimed", task_id=task_id)
    assert isinstance(claimed.event, TaskClaimed)
    started = time.monotonic()
    os.kill(spawned[claimed.event.worker_id], signal.SIGKILL)
    *_, again = await wait_for(fleet, "TaskClaimed", 2, task_id=task_id)
    taken_s = time.monotonic() - started
    assert isinstance(again.event, TaskClaimed)
    assert again.event.worker_id not in spawned
    return taken_s
