"""Fan-outs, barriers and continuations, on a real server with real agents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import KeyTaken, TaskNotFound
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fanning_out import name_fan_out
from fleetlog.bus.handles import FannedOut
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import TaskQueued
from fleetlog.schemas.fan_outs import plan_digest
from fleetlog.schemas.specs import Backoff, TaskSpec


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with Client.connect(target=server.target, fleet=fleet) as client:
        yield client


def adds(count: int) -> list[TaskSpec]:
    return [call("add", a=n, b=n) for n in range(count)]


async def test_a_continuation_runs_once_with_every_outcome_in_order(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=3):
        fan_out = await client.fan_out(FanOut([*adds(5), call("fail", n=1)], then=call("gathered")))
        outcome = await fan_out.result("30s")
    assert outcome.state == "completed"
    assert [each[:2] for each in outcome.result] == [
        *(["completed", 2 * n] for n in range(5)),
        ["failed", None],
    ]


async def test_a_handler_fans_out_and_is_followed_to_the_end(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        top = await client.submit(call("split", depth=3))
        outcome = await top.result("30s")
        # Without a continuation it is its barrier's end that counts.
        plain = await client.submit(call("split", depth=1, then=False))
        ended = await plain.result("30s")
    assert (outcome.task_id, outcome.state, outcome.result) == (top.task_id, "completed", 8)
    assert (ended.task_id, ended.state, ended.result) == (plain.task_id, "completed", None)
    released = await history(client.fleet, types=("BarrierReleased",))
    assert len(released) == len({each.subject and each.subject.id for each in released}) == 8


@pytest.mark.parametrize(
    ("policy", "state"),
    [("settled", "completed"), ("all", "failed"), ("any", "completed"), ("quorum", "completed")],
)
async def test_policies(
    server: EmbeddedServer, fleet: str, client: Client, policy: str, state: str
) -> None:
    members = [*adds(2), call("fail_for_good")]
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        quorum = 2 if policy == "quorum" else None
        fan_out = await client.fan_out(
            FanOut(members, then=call("gathered"), policy=policy, quorum=quorum)  # type: ignore[arg-type]
        )
        outcome = await fan_out.result("30s")
    assert outcome.state == state
    if policy == "all":
        assert outcome.error_class == "dependency"
        assert f"{fan_out.task_ids[2]} failed (permanent)" in (outcome.error or "")


async def test_stragglers_are_cancelled_or_go_on(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=4):
        first, second = [
            await client.fan_out(
                FanOut(
                    [call("noop"), call("nap", seconds=3)],
                    then=call("gathered"),
                    policy="any",
                    stragglers=what,  # type: ignore[arg-type]
                )
            )
            for what in ("cancel", "wait")
        ]
        for each in (first, second):
            outcome = await each.result("30s")
            assert [state for state, *_ in outcome.result] == ["completed", "open"]
        assert (await client.result(first.task_ids[1], "30s")).state == "cancelled"
        assert (await client.result(second.task_ids[1], "30s")).state == "completed"


async def test_a_deadline_cancels_what_is_open(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        # The last one is on a queue that nobody serves.
        members = [call("noop"), call("nap", seconds=60), TaskSpec(handler="noop", queue="none")]
        fan_out = await client.fan_out(FanOut(members, then=call("gathered"), deadline="1s"))
        outcome = await fan_out.result("30s")
    assert [state for state, *_ in outcome.result] == ["completed", "cancelled", "cancelled"]


async def test_members_that_were_there_before_are_members_as_they_are(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        settled = await client.submit(call("add", a=1, b=2), key="settled")
        await settled.result("30s")
        spread = await client.submit(call("split", depth=1))
        await spread.result("30s")
        running = await client.submit(call("nap", seconds=1))
        keyed = TaskSpec(handler="add", args=call("add", a=1, b=2).args, key="settled")
        fan_out = await client.fan_out(
            FanOut([keyed, running.task_id, spread.task_id], then=call("gathered"))
        )
        outcome = await fan_out.result("30s")
    assert [result for _, result, _ in outcome.result] == [3, "rested", 2]
    with pytest.raises(TaskNotFound):
        await client.fan_out(FanOut(["nobody"], then=call("gathered")))


async def test_an_empty_fan_out_is_released_at_once(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        outcome = await (await client.fan_out(FanOut([], then=call("gathered")))).result("30s")
        assert outcome.result == []
        with pytest.raises(InvalidInput, match="can never be met"):
            await client.fan_out(FanOut([], then=call("gathered"), policy="any"))


async def test_a_coordinator_makes_what_the_writer_did_not(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    # Members that do not fit into an event.
    members = [call("fill", size=n % 7) for n in range(600)]
    plan = FanOut(members, then=call("gathered")).plan("b")
    # All that a writer gets to which dies behind its first append.
    named = await name_fan_out(client.fleet, "b", plan, plan_digest(plan))
    fan_out = FannedOut(client, "b", plan, named)
    opened = await history(client.fleet)
    assert [each.event.fan_out.members_ref is None for each in opened] == [False]  # type: ignore[union-attr]
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        outcome = await fan_out.result("60s")
    assert [result for _, result, _ in outcome.result] == ["x" * (n % 7) for n in range(600)]
    assert outcome.result[6][2] == {"size": 6}


async def test_a_cancelled_barrier_ends_its_members_and_its_continuation(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        fan_out = await client.fan_out(
            FanOut([call("nap", seconds=60), call("nap", seconds=60)], then=call("gathered"))
        )
        await wait_for(client.fleet, "TaskClaimed", 2)
        await fan_out.cancel(reason="wrong day")
        outcomes = [await client.result(each, "30s") for each in fan_out.task_ids]
        outcome = await fan_out.result("30s")
        # The same by its continuation, and by the task that fanned out.
        other = await client.fan_out(FanOut([call("nap", seconds=60)], then=call("gathered")))
        assert other.continuation_id is not None
        await wait_for(client.fleet, "TaskHeld", task_id=other.continuation_id)
        await client.cancel(other.continuation_id)
        outcomes += [await client.result(other.task_ids[0], "30s")]
        top = await client.submit(call("split", depth=1, width=1))
        await wait_for(client.fleet, "TaskHeld", task_id=f"{top.task_id}-then")
    assert [each.state for each in outcomes] == ["cancelled"] * 3
    assert outcome.state == "cancelled"


async def test_the_same_key_is_the_same_fan_out(client: Client) -> None:
    fan_out = FanOut(adds(3), then=call("gathered"))
    first = await client.fan_out(fan_out, key="k")
    again = await client.fan_out(fan_out, key="k")
    assert (again.barrier_id, again.is_duplicate, again.seq) == (first.barrier_id, True, first.seq)
    assert not first.is_duplicate
    with pytest.raises(KeyTaken):
        await client.fan_out(FanOut(adds(2), then=call("gathered")), key="k")


async def test_after_waits_for_others_and_fails_with_them(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        first = await client.submit(call("nap", seconds=1))
        second = await client.submit(call("noop"), after=[first.task_id])
        assert (await client.get(second.task_id)).task.status == "held"
        assert (await second.result("30s")).state == "completed"
        # Behind what has settled already.
        third = await client.submit(call("noop"), after=[first.task_id, second.task_id])
        assert (await third.result("30s")).state == "completed"
        bad = await client.submit(call("fail_for_good"))
        fourth = await client.submit(call("noop"), after=[third.task_id, bad.task_id])
        outcome = await fourth.result("30s")
        assert (outcome.state, outcome.error_class) == ("failed", "dependency")
        assert bad.task_id in (outcome.error or "")
        with pytest.raises(TaskNotFound):
            await client.submit(call("noop"), after=["nobody"])


async def test_two_coordinators_and_none_release_once(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with agent(server.target, fleet, workers=2):
        fan_outs = [await client.fan_out(FanOut(adds(3), then=call("gathered"))) for _ in range(20)]
        await wait_for(client.fleet, "TaskCompleted", 60)
        assert await history(client.fleet, types=("BarrierReleased",)) == []
        async with (
            coordinator(server.target, fleet) as one,
            coordinator(server.target, fleet) as two,
        ):
            one.lookout.active.set()
            two.lookout.active.set()
            for each in fan_outs:
                assert (await each.result("30s")).state == "completed"
    assert len(await history(client.fleet, types=("BarrierReleased",))) == 20
    queued = await history(client.fleet, types=("TaskQueued",))
    assert len({each.subject and each.subject.id for each in queued}) == len(queued) == 80


async def test_gatherers_free_their_slots_so_that_one_worker_does_for_all(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        outcome = await (await client.submit(call("sum_up", depth=3))).result("60s")
    assert outcome.result == 8


async def test_a_retried_gatherer_finds_what_it_made(
    server: EmbeddedServer, fleet: str, client: Client, tmp_path: Path
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        spec = call("gather_twice", folder=str(tmp_path))
        outcome = await (await client.submit(spec)).result("60s")
    assert outcome.attempts == 2
    [marked] = [path.name for path in tmp_path.glob("*")]  # noqa: ASYNC240 - a test
    assert outcome.result == [marked, "permanent"]


async def test_a_gather_that_cannot_succeed_raises(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        submitted = await client.submit(call("gather_all"), max_attempts=1)
        outcome = await submitted.result("60s")
    assert outcome.state == "failed"
    assert "GatherFailed: 0 of 1 completed" in (outcome.error or "")


async def test_the_end_of_a_gatherer_ends_what_it_waits_for(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        submitted = await client.submit(call("gather_naps"))
        claimed = await wait_for(client.fleet, "TaskClaimed", 2)
        await submitted.cancel()
        nap = claimed[1].subject
        assert nap is not None
        assert (await client.result(nap.id, "30s")).state == "cancelled"
        assert (await submitted.result("30s")).state == "cancelled"


def shell(script: str, **fields: Any) -> TaskSpec:
    args = msgspec.Raw(msgspec.json.encode({"argv": ["sh", "-ec", script]}))
    return TaskSpec(handler="sh", executor="command", args=args, **fields)


async def test_a_command_fans_out_and_reads_its_children(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    line = {
        "type": "fan_out",
        "members": [
            {"handler": "add", "args": {"a": 1, "b": 2}},
            {"argv": ["echo", "hello"], "labels": {"of": "a command"}},
        ],
        "then": {"argv": ["sh", "-c", 'cat "$FLEETLOG_CHILDREN"']},
        "policy": "all",
        "deadline": "1m",
    }
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        submitted = await client.submit(shell(f"echo '{json.dumps(line)}'"))
        outcome = await submitted.result("30s")
        bad = await client.submit(shell("""echo '{"type": "fan_out", "members": [{}]}'"""))
        refused = await bad.result("30s")
    children = [json.loads(each) for each in outcome.result.splitlines()]
    assert [(child["state"], child["result"]) for child in children] == [
        ("completed", 3),
        ("completed", "hello"),
    ]
    assert (refused.state, refused.error_class) == ("failed", "unreadable_result")
    assert "a task needs a handler or an argv" in (refused.error or "")


async def test_a_command_spawns_tasks_that_nobody_waits_for(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    script = """
        echo '{"type": "spawn", "handler": "add", "args": {"a": 1, "b": 2}}'
        echo '{"type": "spawn", "handler": "noop", "key": "mine"}'
        echo '{"type": "spawn", "queue": "not a queue", "handler": "noop"}'
        if [ "$FLEETLOG_ATTEMPT" = 1 ]; then exit 1; fi
    """
    async with coordinator(server.target, fleet), agent(server.target, fleet, workers=2):
        submitted = await client.submit(shell(script, backoff=Backoff(first_ms=1)))
        assert (await submitted.result("30s")).attempts == 2
        children = {
            record.subject.id: record.event.spec
            for record in await history(client.fleet, types=("TaskQueued",))
            if record.subject and record.subject.id != submitted.task_id
            if isinstance(record.event, TaskQueued)
        }
        said = [chunk.text async for _, chunk in client.fleet.outputs.read(submitted.task_id)]
    assert len(children) == 2
    assert {spec.parent_id for spec in children.values()} == {submitted.task_id}
    assert f"{submitted.task_id}-s1" in children
    assert any("spawn: queue 'not a queue' is not valid" in text for text in said)


async def test_a_cancel_after_the_release_ends_the_continuation(
    server: EmbeddedServer, fleet: str, client: Client
) -> None:
    line = {"type": "fan_out", "members": [], "then": {"argv": ["sleep", "60"]}}
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        top = await client.submit(shell(f"echo '{json.dumps(line)}'"))
        await wait_for(client.fleet, "TaskClaimed", task_id=f"{top.task_id}-then")
        await top.cancel(reason="enough")
        outcome = await top.result("30s")
    assert (outcome.task_id, outcome.state, outcome.error) == (top.task_id, "cancelled", "enough")


async def test_nobody_submits_a_member_or_a_continuation(client: Client) -> None:
    for field in ("barrier_id", "continues"):
        with pytest.raises(InvalidInput, match="a fan-out's to set"):
            await client.submit(msgspec.structs.replace(call("noop"), **{field: "b"}))
