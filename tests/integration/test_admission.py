"""Limits, budgets and turns on a real server: what the log says of who ran when."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for
from support.limit_reading import most_at_once, most_in, starts_under

from fleetlog.agents import supervisor
from fleetlog.bus.bounds import set_budget, set_limit
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.credentials import pause as set_paused
from fleetlog.bus.credentials import resume
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import BoundUnknown
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.handles import Submitted
from fleetlog.bus.outcomes import Outcome
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.events import (
    BudgetExhausted,
    BudgetSet,
    CredentialPaused,
    CredentialResumed,
    LimitSet,
    TaskClaimed,
    TaskCompleted,
    TaskHeld,
    TaskQueued,
)
from fleetlog.schemas.ids import derived_id
from fleetlog.schemas.specs import Backoff, TaskSpec

USD = 1_000_000


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with Client.connect(target=server.target, fleet=fleet) as connected:
        yield connected


async def limit(client: Client, key: str, **setting: int) -> None:
    fleet = client.fleet
    event = LimitSet(
        id=fleet.system.new_id(), occurred_at=fleet.log.now(), **{"key": key, **setting}
    )
    await set_limit(fleet, event)


async def budget(client: Client, key: str, amounts: Budget, *, is_reset: bool = False) -> None:
    fleet = client.fleet
    event = BudgetSet(
        id=fleet.system.new_id(),
        occurred_at=fleet.log.now(),
        key=key,
        budget=amounts,
        is_reset=is_reset,
    )
    await set_budget(fleet, event)


def printing(*lines: dict[str, object], seconds: float = 0) -> list[str]:
    """A command that prints lines of the protocol, after a while."""
    printed = "\n".join(map(json.dumps, lines))
    return ["sh", "-c", f'sleep {seconds}; printf "%s\\n" "$0"', printed]


def usage(usd: float) -> dict[str, object]:
    return {"type": "usage", "cost_usd": usd, "output_tokens": 10}


def costly(usd: float = 1, *lines: dict[str, object], seconds: float = 0.2) -> TaskSpec:
    """A command that says it has used so much money and ten tokens."""
    argv = printing(usage(usd), *lines, seconds=seconds)
    args = msgspec.Raw(msgspec.json.encode({"argv": argv}))
    return TaskSpec(handler="costly", executor="command", args=args)


async def outcomes(submitted: list[Submitted], timeout: str = "30s") -> list[Outcome]:
    return await asyncio.gather(*(each.result(timeout) for each in submitted))


async def states_of(client: Client, submitted: list[Submitted]) -> Counter[str]:
    return Counter([(await client.get(each.task_id)).task.status for each in submitted])


async def submit_all(client: Client, specs: list[TaskSpec]) -> list[Submitted]:
    return await client.submit_many(specs)


def replaced(spec: TaskSpec, **changes: object) -> TaskSpec:
    return msgspec.structs.replace(spec, **changes)


async def test_no_more_run_at_once_than_a_limit_lets(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "github", concurrency=3)
    naps = [call("nap", seconds=0.02) for _ in range(40)]
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=5):
        submitted = await submit_all(client, [replaced(n, limits=("github",)) for n in naps])
        assert Counter(o.state for o in await outcomes(submitted)) == {"completed": 40}
    assert most_at_once(await history(client.fleet), "github") == (3, 0)


async def test_two_coordinators_at_once_let_no_more_in(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    for key, places in (("a", 3), ("b", 2)):
        await limit(client, key, concurrency=places)
    kinds = [("a",), ("b",), ("a", "b"), ("b", "a")]
    specs = [replaced(call("noop", n=n), limits=kinds[n % 4]) for n in range(200)]
    async with (
        coordinator(server.target, fleet, has_rivals=False),
        coordinator(server.target, fleet, has_rivals=False),
        agent(server.target, fleet, workers=4),
    ):
        submitted = await submit_all(client, specs)
        assert Counter(o.state for o in await outcomes(submitted)) == {"completed": 200}
    records = await history(client.fleet)
    assert most_at_once(records, "a") == (3, 0)
    assert most_at_once(records, "b") == (2, 0)
    offered = Counter(
        r.subject.id for r in records if isinstance(r.event, TaskQueued) and r.subject
    )
    assert set(offered.values()) == {1}


async def test_a_rate_lets_so_many_start_in_any_such_time(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "api", rate=10, per_ms=500, burst=4)
    specs = [replaced(call("noop"), limits=("api",)) for _ in range(34)]
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        await outcomes(await submit_all(client, specs))
    starts = starts_under(await history(client.fleet), "api")
    assert len(starts) == 34
    assert starts[3] - starts[0] < timedelta(milliseconds=50)
    for ms in (50, 500, 1000):
        assert most_in(starts, timedelta(milliseconds=ms)) <= 4 + ms / 50
    # The bucket is emptied as soon as it may be: 30 more after the first four, one in 50 ms.
    assert starts[-1] - starts[0] < timedelta(seconds=2.5)


async def test_a_retried_task_holds_nothing_while_it_waits(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "one", concurrency=1)
    failing = replaced(call("fail"), limits=("one",), backoff=Backoff(first_ms=600_000))
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        first = await client.submit(failing)
        await wait_for(client.fleet, "TaskRetried")
        second = await client.submit(call("noop"), limits=["one"])
        assert (await second.result("20s")).is_completed
        await first.cancel()
    assert most_at_once(await history(client.fleet), "one") == (1, 0)


async def test_a_limit_of_none_holds_until_it_is_raised_and_a_cancel_needs_no_room(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "shut", concurrency=0)
    submitted = [await client.submit(call("noop"), limits=["shut"]) for _ in range(3)]
    late = await client.submit(call("noop"), limits=["shut"], expires="300ms")
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        other = await client.submit(call("noop"))
        await other.result("20s")
        await submitted[0].cancel()
        assert (await late.result("20s")).state == "expired"
        assert (await client.get(submitted[1].task_id)).task.status == "held"
        await limit(client, "shut", concurrency=1)
        states = [o.state for o in await outcomes(submitted)]
    assert states == ["cancelled", "completed", "completed"]


async def test_each_key_of_a_family_has_its_own_places(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "user:*", concurrency=1)
    await limit(client, "user:vip", concurrency=2)
    users = ("user:ann", "user:bob", "user:vip")
    naps = [replaced(call("nap", seconds=0.05), limits=(each,)) for each in users for _ in range(6)]
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=6):
        await outcomes(await submit_all(client, naps))
    records = await history(client.fleet)
    assert [most_at_once(records, user) for user in users] == [(1, 0), (1, 0), (2, 0)]


async def test_a_limit_is_one_gate_among_others(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    """After another task, after a delay, as a member and as a continuation: each waits for room as well."""
    await limit(client, "one", concurrency=1)
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=3):
        first = await client.submit(call("nap", seconds=0.1), limits=["one"])
        after = await client.submit(call("noop"), limits=["one"], after=[first.task_id])
        delayed = await client.submit(call("noop"), limits=["one"], delay="200ms")
        members = [replaced(call("nap", seconds=0.02), limits=("one",)) for _ in range(4)]
        then = replaced(call("gathered"), limits=("one",))
        fan_out = await client.fan_out(FanOut(members, then=then))
        done = await outcomes([first, after, delayed])
        assert [o.state for o in done] == ["completed"] * 3
        assert (await fan_out.result("20s")).is_completed
    assert most_at_once(await history(client.fleet), "one") == (1, 0)


async def test_a_limit_that_nobody_has_set_is_refused_with_near_names(client: Client) -> None:
    await limit(client, "github", concurrency=3)
    await limit(client, "user:*", concurrency=3)
    spec = TaskSpec(handler="any", executor="command", limits=("github", "user:ann"))
    await client.submit(spec, is_checked=True)
    with pytest.raises(BoundUnknown, match="'gihub': did you mean 'github'"):
        await client.submit(replaced(spec, limits=("gihub",)), is_checked=True)
    with pytest.raises(BoundUnknown, match="fleetlog budget set nightly"):
        await client.submit(replaced(spec, budgets=("nightly",)), is_checked=True)
    assert len(await history(client.fleet, types=("TaskHeld",))) == 1


async def test_what_is_under_a_limit_that_is_not_set_just_runs(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        submitted = await client.submit(call("noop"), limits=["unknown"])
        assert (await submitted.result("20s")).is_completed


async def test_a_budget_holds_what_has_not_started_and_lets_it_go_when_raised(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await budget(client, "nightly", Budget(cost_micro_usd=3 * USD))
    specs = [replaced(costly(), budgets=("nightly",)) for _ in range(10)]
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        submitted = await submit_all(client, specs)
        [told] = await wait_for(client.fleet, "BudgetExhausted")
        assert isinstance(told.event, BudgetExhausted)
        assert (told.event.resource, told.event.action) == ("cost", "hold")
        while (states := await states_of(client, submitted)) != {"held": 6, "completed": 4}:
            assert states["completed"] <= 4, states
        records = await history(client.fleet)
        claims = sum(isinstance(r.event, TaskClaimed) for r in records)
        assert claims == 4, "three use it up, and one ran beside the third"
        free = await client.submit(call("noop"))
        assert (await free.result("20s")).is_completed
        await budget(client, "nightly", Budget(cost_micro_usd=100 * USD))
        assert Counter(o.state for o in await outcomes(submitted)) == {"completed": 10}
        assert Counter(o.attempts for o in await outcomes(submitted)) == {1: 10}


async def test_a_tree_stops_when_its_budget_is_used_up(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    """Members, what they spawn and the continuation are of the tree."""
    amounts = Budget(cost_micro_usd=3 * USD, action="stop")
    members = [{"argv": printing(usage(0.5), seconds=0.2)} for _ in range(20)]
    line = {"type": "fan_out", "members": members, "then": {"handler": "gathered"}}
    root = costly(1, line)
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        submitted = await client.submit(root, budget=amounts)
        outcome = await submitted.result("30s")
        assert outcome.state == "cancelled"
        ids = [derived_id(submitted.task_id, n) for n in range(1, 21)]
        states = Counter([(await client.result(each, "20s")).state for each in ids])
        records = await history(client.fleet)
    spent = sum(
        r.event.usage.cost_micro_usd
        for r in records
        if isinstance(r.event, TaskCompleted) and r.event.usage is not None
    )
    assert 3 * USD <= spent <= 3 * USD + USD // 2, "what ran beside the one that used it up"
    [told] = [r.event for r in records if isinstance(r.event, BudgetExhausted)]
    assert (told.key, told.action) == (submitted.task_id, "stop")
    cancelled = [r.event for r in records if type(r.event).__name__ == "TaskCancelled"]
    assert states == {"completed": (spent - USD) // (USD // 2), "cancelled": len(cancelled) - 1}
    assert {each.reason for each in cancelled if each.reason} >= {
        f"budget {submitted.task_id} is used up"
    }


async def test_what_runs_under_a_budget_that_stops_hears_of_it_at_once(
    server: EmbeddedServer, client: Client, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOOK_S", 3600.0)
    await budget(client, "tight", Budget(tokens=1, action="stop"))
    long, short = (replaced(costly(seconds=s), budgets=("tight",)) for s in (60, 0.2))
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        submitted = await client.submit(long)
        await wait_for(client.fleet, "TaskClaimed", task_id=submitted.task_id)
        await client.submit(short)
        assert (await submitted.result("20s")).state == "cancelled"


async def test_a_budget_that_only_warns_stops_nothing(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await budget(client, "soft", Budget(tokens=15, action="warn"))
    specs = [replaced(costly(), budgets=("soft",)) for _ in range(5)]
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        states = [o.state for o in await outcomes(await submit_all(client, specs))]
        assert states == ["completed"] * 5
        [told] = await wait_for(client.fleet, "BudgetExhausted")
    assert isinstance(told.event, BudgetExhausted)
    assert told.event.spent.tokens == 20
    assert not [r for r in await history(client.fleet) if isinstance(r.event, TaskHeld)][5:]


async def test_a_restart_forgets_neither_bucket_nor_what_was_spent(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "api", rate=2, per_ms=600_000)
    await budget(client, "b", Budget(cost_micro_usd=2 * USD))
    spec = replaced(costly(), budgets=("b",))
    async with agent(server.target, fleet):
        async with coordinator(server.target, fleet) as one:
            two = await submit_all(client, [replaced(spec, limits=("api",)) for _ in range(2)])
            await outcomes(two)
            await wait_for(client.fleet, "BudgetExhausted")
        assert one._saved_seq > 0
        held = await client.submit(spec)
        limited = await client.submit(call("noop"), limits=["api"])
        async with coordinator(server.target, fleet) as other:
            assert other._saved_seq == one._saved_seq
            marker = await client.submit(call("noop"), delay="1ms")
            await marker.result("20s")
            for each in (held, limited):
                assert (await client.get(each.task_id)).task.status == "held"
            await budget(client, "b", Budget(cost_micro_usd=2 * USD), is_reset=True)
            assert (await held.result("20s")).is_completed


async def test_a_paused_credential_keeps_no_places_from_others(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    """Neither those of a limit nor the slots that a budget's tasks are offered for."""
    await limit(client, "k", concurrency=2)
    await budget(client, "b", Budget(cost_micro_usd=100 * USD))
    needing = TaskSpec(handler="ask", executor="claude", limits=("k",), budgets=("b",))
    async with coordinator(server.target, fleet):
        log = client.fleet.log
        asking = await submit_all(client, [needing] * 4)
        pause = CredentialPaused(
            id="p", occurred_at=log.now(), error_class="paused", error="enough for today"
        )
        await set_paused(log, "claude", pause)
        async with agent(server.target, fleet, workers=2):
            others = await submit_all(
                client, [replaced(costly(), limits=("k",), budgets=("b",)) for _ in range(4)]
            )
            assert {o.state for o in await outcomes(others)} == {"completed"}
            assert await states_of(client, asking) == {"held": 4}
            await resume(log, "claude", CredentialResumed(id="r", occurred_at=log.now()))
            await wait_for(client.fleet, "TaskQueued", 4 + 2)


async def test_each_key_has_its_turn(server: EmbeddedServer, client: Client, fleet: str) -> None:
    """One key has many tasks before another comes with few: these do not wait behind all of the others."""
    async with coordinator(server.target, fleet), agent(server.target, fleet) as one:
        many = [replaced(call("nap", seconds=0.02), fair_key="many") for _ in range(60)]
        few = [replaced(call("noop"), fair_key="few") for _ in range(5)]
        submitted = await submit_all(client, [*many, *few])
        await outcomes(submitted)
        del one
    few_ids = {each.task_id for each in submitted[60:]}
    claimed = [
        r.subject.id
        for r in await history(client.fleet)
        if isinstance(r.event, TaskClaimed) and r.subject
    ]
    last_of_few = max(n for n, task_id in enumerate(claimed) if task_id in few_ids)
    # In turns: before the last of five, about as many of the others, and what was on offer already.
    assert last_of_few <= 5 + 5 + 8


async def test_a_thousand_are_let_in_under_a_wide_limit(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await limit(client, "wide", concurrency=10_000)
    specs = [TaskSpec(handler="h", limits=("wide",)) for _ in range(1200)]
    async with coordinator(server.target, fleet):
        await submit_all(client, specs)
        await wait_for(client.fleet, "TaskQueued", 1200)
    assert most_at_once(await history(client.fleet), "wide") == (1200, 1200)
