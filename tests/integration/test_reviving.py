"""Lines of revivals, on a real log without agents."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from fleetlog.bus.client import Client
from fleetlog.bus.core import Claim, Complete, Fail
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import Refused
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.reviving import revive
from fleetlog.bus.rules import Decided, execute, load_task
from fleetlog.schemas.specs import TaskSpec


async def claim(client: Client, task_id: str) -> int:
    task = await load_task(client.fleet.log, task_id)
    return await do(
        client,
        task_id,
        Claim(
            id=client.fleet.system.new_id(),
            offer=task.offer,
            agent_id="a",
            worker_id="w",
            host="h",
        ),
    )


async def do(client: Client, task_id: str, command: AnyCommand) -> int:
    task = await load_task(client.fleet.log, task_id)
    decided = await execute(client.fleet.log, command, task)
    assert isinstance(decided, Decided)
    return decided.seq


async def die(client: Client, task_id: str) -> None:
    fence = await claim(client, task_id)
    fields = {"error_class": "error", "error": "no", "jitter": 0.0, "is_permanent": True}
    await do(client, task_id, Fail(id=client.fleet.system.new_id(), fence=fence, **fields))


async def complete(client: Client, task_id: str) -> None:
    fence = await claim(client, task_id)
    result = msgspec.Raw(b"1")
    await do(client, task_id, Complete(id=client.fleet.system.new_id(), fence=fence, result=result))


async def dead(client: Client, task_id: str, **fields: object) -> None:
    await client.submit(TaskSpec(handler="h", **fields), task_id=task_id)  # type: ignore[arg-type]
    await die(client, task_id)


async def test_many_at_once_make_one_task(server: EmbeddedServer, fleet: str) -> None:
    async with open_fleet(server.target, fleet) as opened:
        await dead(Client(opened), "t")
        made = await asyncio.gather(*(revive(opened, "t") for _ in range(20)))
        assert {one.task_id for one in made} == {"t-r1"}
        assert [one.is_duplicate for one in made].count(False) == 1


async def test_a_line_goes_on_from_its_end(server: EmbeddedServer, fleet: str) -> None:
    async with open_fleet(server.target, fleet) as opened:
        client = Client(opened)
        await dead(client, "t")
        assert (await revive(opened, "t")).task_id == "t-r1"
        assert (await revive(opened, "t")).is_duplicate
        await die(client, "t-r1")
        both = await asyncio.gather(revive(opened, "t"), revive(opened, "t-r1"))
        assert {one.task_id for one in both} == {"t-r2"}
        await client.cancel("t-r2")
        assert (await revive(opened, "t")).task_id == "t-r3"
        await complete(client, "t-r3")
        with pytest.raises(Refused, match="was revived as t-r3, which has completed"):
            await revive(opened, "t")


async def test_a_strangers_id_is_passed_over(server: EmbeddedServer, fleet: str) -> None:
    async with open_fleet(server.target, fleet) as opened:
        client = Client(opened)
        await dead(client, "build")
        await dead(client, "build-r1")
        await client.submit(TaskSpec(handler="other"), task_id="build-r2")
        assert (await revive(opened, "build")).task_id == "build-r3"
        assert (await revive(opened, "build-r1")).task_id == "build-r1-r1"
