"""Arguments and results that are too large for an event: stored before the event that names them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest
from support.fleets import agent, coordinator, first_of, options, wait_for

from fleetlog.agents.supervisor import Supervisor
from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import KeyTaken, ObjectLost
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fanning_out import open_fan_out
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.objects import MemoryObjects, ref_of
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import TaskCompleted, TaskHeld, TaskQueued
from fleetlog.schemas.objects import INLINE_MAX_BYTES, PAYLOAD_MAX_BYTES, ObjectRef
from fleetlog.schemas.specs import TaskSpec

LARGE = "x" * (INLINE_MAX_BYTES + 1)


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def command(code: str) -> TaskSpec:
    argv = [sys.executable, "-c", code]
    args = msgspec.Raw(msgspec.json.encode({"argv": argv}))
    return TaskSpec(executor="command", handler="test", args=args)


async def first_event(client: Client, task_id: str) -> TaskQueued:
    event = (await client.get(task_id)).events[0].event
    assert isinstance(event, TaskQueued)
    return event


async def last_event(client: Client, task_id: str) -> TaskCompleted:
    event = (await client.get(task_id)).events[-1].event
    assert isinstance(event, TaskCompleted), event
    return event


async def test_large_arguments_reach_their_handler_and_stand_in_no_event(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    spec = call("measure", text=LARGE)
    task = await client.submit(spec)
    event = await first_event(client, task.task_id)
    assert event.spec.args_ref == ref_of(bytes(spec.args))
    assert bytes(event.spec.args) == b"{}"
    assert await client.fleet.objects.get(event.spec.args_ref) == bytes(spec.args)
    async with agent(server.target, fleet):
        outcome = await task.result("20s")
    assert (outcome.result, outcome.result_ref) == (len(LARGE), None)


async def test_large_arguments_of_members_stand_in_no_event(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    # So large that the server would take no event with them.
    spec = call("measure", text="x" * (PAYLOAD_MAX_BYTES // 2))
    plan = FanOut([spec], then=spec).plan("b")
    await open_fan_out(client.fleet, "b", plan)
    event = await first_event(client, "b-1")
    assert event.spec.args_ref == ref_of(bytes(spec.args))
    held = (await client.get("b-then")).events[0].event
    assert isinstance(held, TaskHeld)
    assert held.spec.args_ref == event.spec.args_ref
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        assert (await client.result("b-1", "20s")).result == PAYLOAD_MAX_BYTES // 2
        assert (await client.result("b-then", "20s")).state == "completed"


async def test_a_handler_fans_out_with_large_arguments(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    task = await client.submit(call("spread_large", chars=len(LARGE)))
    async with coordinator(server.target, fleet), agent(server.target, fleet):
        outcome = await task.result("20s")
    assert outcome.result == [["completed", len(LARGE), None]]
    event = await first_event(client, f"{task.task_id}-1")
    assert event.spec.args_ref is not None


async def test_arguments_up_to_the_limit_stand_in_the_event(client: Client) -> None:
    frame = len(b'{"text":""}')
    most = call("measure", text="x" * (INLINE_MAX_BYTES - frame))
    more = call("measure", text="x" * (INLINE_MAX_BYTES - frame + 1))
    for spec, is_stored in ((most, False), (more, True)):
        event = await first_event(client, (await client.submit(spec)).task_id)
        assert (event.spec.args_ref is not None) is is_stored


async def test_a_large_result_is_stored_and_fetched(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet):
        task = await client.submit(call("fill", size=500_000))
        outcome = await task.result("20s")
    assert outcome.result == "x" * 500_000
    event = await last_event(client, task.task_id)
    assert bytes(event.result) == b"null"
    assert event.result_ref == ref_of(b'"' + b"x" * 500_000 + b'"')
    unfetched = await client.outcome(task.task_id, is_fetched=False)
    assert unfetched is not None
    assert (unfetched.result, unfetched.result_ref) == (None, event.result_ref)
    await client.fleet.objects.delete(event.result_ref)
    with pytest.raises(ObjectLost, match="no object"):
        await client.outcome(task.task_id)


async def test_payloads_of_the_largest_size_pass_through_python_and_commands(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    room = PAYLOAD_MAX_BYTES - len(b'{"text":""}')
    result_line = "import json; print(json.dumps({'type':'result','status':'ok','output':'x'*%d}))"
    async with agent(server.target, fleet):
        tasks = [
            await client.submit(call("measure", text="x" * room)),
            await client.submit(call("fill", size=PAYLOAD_MAX_BYTES - 2)),
            await client.submit(command(result_line % (PAYLOAD_MAX_BYTES - 2))),
        ]
        outcomes = [await task.result("60s") for task in tasks]
    assert [outcome.state for outcome in outcomes] == ["completed"] * 3, outcomes[2].error
    assert outcomes[0].result == room
    assert all(len(outcome.result) == PAYLOAD_MAX_BYTES - 2 for outcome in outcomes[1:])


async def test_a_submit_past_the_largest_size_writes_nothing(client: Client) -> None:
    with pytest.raises(InvalidInput, match=f"at most {PAYLOAD_MAX_BYTES} are allowed"):
        await client.submit(call("measure", text="x" * PAYLOAD_MAX_BYTES))
    assert await client.fleet.log.end() == 0


@pytest.mark.parametrize(
    "spec",
    [
        call("fill", size=PAYLOAD_MAX_BYTES),
        command(
            "import json;"
            f"print(json.dumps({{'type':'result','status':'ok','output':'x'*{PAYLOAD_MAX_BYTES}}}))"
        ),
        command(
            "import json;"
            f"print(json.dumps({{'status':'ok','type':'result','output':'x'*{PAYLOAD_MAX_BYTES * 2}}}))"
        ),
    ],
    ids=["python", "command", "command, far too large"],
)
async def test_a_result_past_the_largest_size_fails_for_good(
    server: EmbeddedServer, client: Client, fleet: str, spec: TaskSpec
) -> None:
    async with agent(server.target, fleet):
        task = await client.submit(spec)
        outcome = await task.result("60s")
    assert (outcome.state, outcome.error_class) == ("failed", "unreadable_result")
    assert f"at most {PAYLOAD_MAX_BYTES} are allowed" in (outcome.error or "")
    assert outcome.attempts == 1


async def test_the_same_large_payload_is_the_same_task_and_another_is_refused(
    client: Client,
) -> None:
    task = await client.submit(call("measure", text=LARGE), key="one")
    again = await client.submit(call("measure", text=LARGE), key="one")
    assert again.is_duplicate
    assert again.seq == task.seq
    for other in (LARGE + "y", "y" * len(LARGE), "y"):
        with pytest.raises(KeyTaken):
            await client.submit(call("measure", text=other), key="one")


async def test_many_large_tasks_are_submitted_as_a_stream(client: Client) -> None:
    specs = [call("measure", text=f"{n}{LARGE}") for n in range(5)]
    tasks = await client.submit_many(specs)
    events = [await first_event(client, task.task_id) for task in tasks]
    assert [e.spec.args_ref for e in events] == [ref_of(bytes(spec.args)) for spec in specs]


async def test_arguments_that_are_lost_fail_the_task_for_good(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    spec = call("measure", text=LARGE)
    task = await client.submit(spec)
    await client.fleet.objects.delete(ref_of(bytes(spec.args)))
    async with agent(server.target, fleet):
        outcome = await task.result("20s")
    assert (outcome.state, outcome.error_class, outcome.attempts) == ("failed", "arguments_lost", 1)
    assert "no object" in (outcome.error or "")


async def test_a_large_task_is_tried_again_with_its_arguments(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    """The offer that follows a failed attempt names the stored arguments as the first one did."""
    code = "import os, sys; sys.exit(0 if os.environ['FLEETLOG_ATTEMPT'] == '2' else 1)"
    args = {"argv": [sys.executable, "-c", code], "stdin": LARGE}
    spec = TaskSpec(executor="command", handler="test", args=msgspec.Raw(msgspec.json.encode(args)))
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        task = await client.submit(spec)
        outcome = await task.result("30s")
    assert (outcome.state, outcome.attempts) == ("completed", 2)


class Stuck(MemoryObjects):
    """A store that takes for ever to give anything."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def get(self, ref: ObjectRef) -> bytes:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError(ref)


async def test_an_attempt_that_waits_for_its_arguments_can_be_cancelled_and_drained(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    stuck, stop = Stuck(), asyncio.Event()
    async with open_fleet(server.target, fleet, role="agent") as opened:
        supervisor = Supervisor(
            msgspec.structs.replace(opened, objects=stuck), options(drain_s=0.1)
        )
        serving = asyncio.ensure_future(supervisor.run(stop))
        await first_of(serving, supervisor.ready)
        task = await client.submit(call("measure", text=LARGE))
        await stuck.asked.wait()
        await task.cancel()
        assert (await task.result("20s")).state == "cancelled"
        stuck.asked.clear()
        other = await client.submit(call("measure", text=LARGE + "y"))
        await stuck.asked.wait()
        stop.set()
        await serving
    [returned] = await wait_for(client.fleet, "TaskReturned", task_id=other.task_id)
    assert returned.event.error_class == "drained"  # type: ignore[union-attr]
