"""The synchronous face of the client."""

from __future__ import annotations

import threading

import pytest
from support.fleets import agent

import fleetlog
from fleetlog.bus.call import call
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import KeyTaken, TaskNotFound, Unavailable


def use(target: Target, fleet: str) -> dict[str, object]:
    with fleetlog.connect(fleet=fleet, target=target) as client:
        task = client.submit(call("noop", n=3), key="k")
        again = client.submit(call("noop", n=3), key="k")
        many = client.submit_many([call("noop", n=n) for n in range(5)])
        with pytest.raises(KeyTaken):
            client.submit(call("noop", n=4), key="k")
        with pytest.raises(TaskNotFound):
            client.get("nobody")
        waiting = client.submit(call("noop"), delay="1h")
        waiting.cancel(reason="no more")
        asking = client.submit(call("ask", choices=["a", "b"]))
        # Only one that asks can be answered; each try is a look at the log.
        while client.get(asking.task_id).task.question is None:
            pass
        client.answer(asking.task_id, "b", actor="ann")
        return {
            "answered": asking.result("20s").result[0],
            "result": task.result("20s").result,
            "duplicate": again.is_duplicate,
            "many": [each.result("20s").result for each in many],
            "cancelled": client.result(waiting.task_id).state,
            "status": client.get(task.task_id).task.status,
        }


async def test_the_same_calls_from_a_thread_without_a_loop(
    server: EmbeddedServer, fleet: str
) -> None:
    import asyncio

    async with agent(server.target, fleet):
        found = await asyncio.to_thread(use, server.target, fleet)
    assert found == {
        "answered": "b",
        "result": 3,
        "duplicate": True,
        "many": [0, 1, 2, 3, 4],
        "cancelled": "cancelled",
        "status": "completed",
    }


def test_no_fleet_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(Unavailable, match="fleetlog up"), fleetlog.connect():
        pass
    assert threading.active_count() == before
