"""The log of a real fleet, judged by rules that know nothing of its code."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from support.fleets import agent, coordinator, wait_for
from support.judging import check_fleet

from fleetlog.bus.bounds import set_budget, set_limit
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fan_out import FanOut
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.events import BudgetSet, LimitSet
from fleetlog.schemas.specs import Backoff, TaskSpec

QUICK = Backoff(first_ms=50)


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with Client.connect(target=server.target, fleet=fleet) as connected:
        yield connected


def changed(spec: TaskSpec, **changes: Any) -> TaskSpec:
    return msgspec.structs.replace(spec, **changes)


async def set_bounds(client: Client) -> None:
    fleet = client.fleet
    stamp: dict[str, Any] = {"occurred_at": fleet.log.now()}
    limit = LimitSet(id=fleet.system.new_id(), key="narrow", concurrency=1, **stamp)
    await set_limit(fleet, limit)
    budget = BudgetSet(
        id=fleet.system.new_id(), key="purse", budget=Budget(wall_ms=600_000), **stamp
    )
    await set_budget(fleet, budget)


async def test_what_a_small_fleet_writes_breaks_no_rule(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await set_bounds(client)
    adds = [call("add", a=n, b=n) for n in range(4)]
    narrow = [changed(call("noop", n=n), limits=("narrow",), budgets=("purse",)) for n in range(5)]
    retried = changed(call("fail_until", attempt=3), backoff=QUICK)
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        fanned_out = await client.fan_out(
            FanOut([*adds, call("fail_for_good"), call("split", depth=2)], then=call("gathered"))
        )
        hurried = await client.fan_out(
            FanOut([call("noop"), call("nap", seconds=30)], then=call("noop"), policy="any")
        )
        submitted = [*await client.submit_many(narrow), await client.submit(retried)]
        submitted.append(await client.submit(changed(call("noop"), delay_ms=300)))
        submitted.append(await client.submit(changed(call("noop"), after=(submitted[0].task_id,))))
        asking = await client.submit(call("ask", choices=["yes", "no"]))
        napping = await client.submit(call("nap", seconds=30), key="nap")
        await wait_for(client.fleet, "TaskReturned", task_id=asking.task_id)
        await client.answer(asking.task_id, "yes")
        await wait_for(client.fleet, "TaskClaimed", task_id=napping.task_id)
        await napping.cancel()
        awaited: list[Any] = [*submitted, asking, fanned_out, hurried]
        outcomes = await asyncio.gather(*(each.result("60s") for each in awaited))
        ended = await napping.result("30s")
        assert Counter(each.state for each in outcomes) == {"completed": len(outcomes)}
        assert ended.state == "cancelled"
        await wait_for(client.fleet, "TaskCancelled", 2)
    await check_fleet(client.fleet, is_quiet=True)


async def test_what_is_left_open_is_told(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    unserved = await client.submit(call("noop"))
    await check_fleet(client.fleet, is_quiet=True, allowed_open={unserved.task_id})
    with pytest.raises(AssertionError, match="still queued"):
        await check_fleet(client.fleet, is_quiet=True)
