"""An agent on a real server with real workers: from an offer to the outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from support.fleets import agent, coordinator, history, wait_for

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import AlreadySettled, KeyTaken, TaskNotFound
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import Backoff, TaskSpec


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


FAST = Backoff(first_ms=20, max_ms=20)


def fast(spec: TaskSpec) -> TaskSpec:
    return msgspec.structs.replace(spec, backoff=FAST)


async def test_a_task_is_claimed_run_and_completed_once(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet) as supervisor:
        task = await client.submit(call("noop", n=7))
        outcome = await task.result("20s")
    assert (outcome.state, outcome.result, outcome.attempts) == ("completed", 7, 1)
    seen = await client.get(task.task_id)
    assert [type(r.event).__name__ for r in seen.events] == [
        "TaskQueued",
        "TaskClaimed",
        "TaskCompleted",
    ]
    names = [type(r.event).__name__ for r in await history(client.fleet)]
    assert names.index("AgentStarted") < names.index("WorkerSpawned")
    assert names[-2:] == ["WorkerExited", "AgentStopped"]
    claimed = seen.events[1].event
    assert (claimed.agent_id, claimed.host) == (supervisor.agent_id, supervisor.host)  # type: ignore[union-attr]


async def test_a_failed_attempt_is_retried_and_then_succeeds(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        task = await client.submit(fast(call("fail_until", attempt=3)))
        outcome = await task.result("20s")
    assert (outcome.state, outcome.result, outcome.attempts) == ("completed", "attempt 3", 3)


async def test_a_task_fails_after_its_last_attempt_and_at_once_on_a_permanent_error(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        often = await client.submit(fast(call("fail", message="always")), max_attempts=2)
        once = await client.submit(call("fail_for_good"))
        unknown = await client.submit(call("nobody"))
        outcomes = [await each.result("20s") for each in (often, once, unknown)]
    assert [(o.state, o.attempts, o.error_class) for o in outcomes] == [
        ("failed", 2, "error"),
        ("failed", 1, "permanent"),
        ("failed", 1, "unknown_handler"),
    ]
    assert "always" in (outcomes[0].error or "")


async def test_a_worker_crash_counts_as_an_attempt_and_the_worker_is_replaced(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        task = await client.submit(fast(call("die")), max_attempts=2)
        outcome = await task.result("30s")
        after = await (await client.submit(call("noop"))).result("20s")
    assert (outcome.state, outcome.attempts, outcome.error_class) == ("failed", 2, "crash")
    assert after.is_completed


@pytest.mark.parametrize("handler", ["nap", "nap_in_thread"])
async def test_an_attempt_past_its_time_out_is_ended(
    server: EmbeddedServer, client: Client, fleet: str, handler: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        task = await client.submit(call(handler, seconds=60), timeout="300ms", max_attempts=1)
        outcome = await task.result("30s")
    assert (outcome.state, outcome.error_class) == ("failed", "timeout")


async def test_a_command_runs_and_its_output_is_kept(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    spec = TaskSpec(
        handler="sh",
        executor="command",
        args=msgspec.Raw(b'{"argv": ["sh", "-c", "echo one; echo two >&2"]}'),
    )
    async with agent(server.target, fleet, app=None):
        task = await client.submit(spec)
        outcome = await task.result("20s")
    assert outcome.state == "completed"
    chunks = [chunk async for _, chunk in client.fleet.outputs.read(task.task_id)]
    assert {(c.stream, c.text.strip()) for c in chunks} == {("stdout", "one"), ("stderr", "two")}


async def test_a_running_task_is_cancelled_and_its_process_ends(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet):
        running = await client.submit(call("nap", seconds=60))
        waiting = await client.submit(call("nap", seconds=60))
        await until_claimed(client, running.task_id)
        await running.cancel(reason="not needed")
        await waiting.cancel()
        outcomes = [await each.result("20s") for each in (running, waiting)]
        after = await (await client.submit(call("noop"))).result("20s")
    assert [o.state for o in outcomes] == ["cancelled", "cancelled"]
    assert [o.attempts for o in outcomes] == [1, 0]
    assert after.is_completed
    with pytest.raises(AlreadySettled):
        await running.cancel()


async def test_a_delayed_task_is_held_until_its_time(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        task = await client.submit(call("noop"), delay="400ms")
        await task.result("20s")
    events = (await client.get(task.task_id)).events
    assert [type(r.event).__name__ for r in events][:2] == ["TaskHeld", "TaskQueued"]
    assert (events[1].stored_at - events[0].stored_at).total_seconds() >= 0.4


async def test_a_task_that_does_not_start_in_time_expires(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet):
        task = await client.submit(call("noop"), start_within="200ms")
        outcome = await task.result("20s")
    assert (outcome.state, outcome.error_class) == ("expired", "expired")


async def test_the_same_key_is_the_same_task_and_another_payload_is_refused(client: Client) -> None:
    first = await client.submit(call("noop", n=1), key="k")
    again = await client.submit(call("noop", n=1), key="k", priority="high")
    assert (again.task_id, again.seq, again.is_duplicate) == (first.task_id, first.seq, True)
    with pytest.raises(KeyTaken, match="another payload"):
        await client.submit(call("noop", n=2), key="k")


async def test_the_same_key_twice_in_one_submit_many_is_one_task(client: Client) -> None:
    specs = [TaskSpec(handler="noop", key=f"key-{n % 50}") for n in range(500)]
    submitted = await client.submit_many(specs)
    assert len({s.task_id for s in submitted}) == 50
    assert sum(not s.is_duplicate for s in submitted) == 50
    assert await client.fleet.log.end() == 50


async def test_a_stream_of_tasks_is_read_no_faster_than_the_log_takes_it(client: Client) -> None:
    read = told = 0

    def specs() -> Iterator[TaskSpec]:
        nonlocal read
        for _ in range(500):
            read += 1
            yield TaskSpec(handler="noop")

    async for _ in client.submit_stream(specs(), in_flight_max=10):
        told += 1
        assert read - told <= 10
    assert told == 500


async def test_what_comes_before_a_task_that_is_refused_is_told_first(client: Client) -> None:
    specs = [TaskSpec(handler="noop")] * 200 + [TaskSpec(handler="noop", queue="a b")]
    told: list[int] = []

    async def submit() -> None:
        async for submitted in client.submit_stream(specs):
            told.append(submitted.seq)  # noqa: PERF401 - what came before it raises counts

    with pytest.raises(InvalidInput, match="queue"):
        await submit()
    assert told == list(range(1, 201))
    assert await client.fleet.log.end() == 200


async def test_what_cannot_be_accepted_is_refused_before_anything_is_written(
    client: Client,
) -> None:
    for wrong in (
        TaskSpec(handler="x", queue="a b"),
        TaskSpec(handler=""),
        TaskSpec(handler="x", args=msgspec.Raw(b"[1]")),
        TaskSpec(handler="x", args=msgspec.Raw(b"{")),
        TaskSpec(handler="x", max_attempts=0),
    ):
        with pytest.raises(InvalidInput):
            await client.submit(wrong)
    with pytest.raises(InvalidInput, match="duration"):
        await client.submit(call("noop"), timeout="soon")
    with pytest.raises(TaskNotFound):
        await client.result("nobody")
    assert await client.fleet.log.end() == 0


async def test_high_is_next_behind_a_thousand_low(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    await client.submit_many([TaskSpec(handler="noop", priority="low")] * 1000)
    async with agent(server.target, fleet):
        await wait_for(client.fleet, "TaskClaimed")
        high = await client.submit(call("noop"), priority="high")
        await high.result("20s")
        claims = await history(client.fleet, types=("TaskClaimed",))
        claim = next(r for r in claims if r.subject and r.subject.id == high.task_id)
        between = [r for r in claims if high.seq < r.seq < claim.seq]
    assert len(between) <= 2  # what was being claimed when it came


async def test_low_is_not_starved_when_all_wait(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    for priority in ("high", "normal", "low"):
        await client.submit_many([TaskSpec(handler="noop", priority=priority)] * 200)
    async with agent(server.target, fleet, workers=1, concurrency=4):
        await wait_for(client.fleet, "TaskCompleted", 600)
    started = [
        r.subject.priority for r in await history(client.fleet, types=("TaskClaimed",)) if r.subject
    ]
    while_all_wait = started[: started.index("normal") + 200] if "normal" in started else started
    last_high = max(i for i, p in enumerate(started) if p == "high")
    for begin in range(last_high - 15):
        assert "low" in started[begin : begin + 20]
    shares = Counter(started[:last_high])
    assert shares["high"] > shares["normal"] > shares["low"] >= last_high // 17
    assert while_all_wait


async def test_long_tasks_are_split_evenly_between_two_agents(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with (
        agent(server.target, fleet, workers=2, concurrency=5, drain_s=0.1) as one,
        agent(server.target, fleet, workers=2, concurrency=5, drain_s=0.1) as two,
    ):
        await client.submit_many([call("nap", seconds=60)] * 20)
        claims = await wait_for(client.fleet, "TaskClaimed", 20)
    assert Counter(r.event.agent_id for r in claims) == {one.agent_id: 10, two.agent_id: 10}  # type: ignore[union-attr]


async def test_a_drain_gives_back_what_does_not_finish_and_another_agent_runs_it(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with coordinator(server.target, fleet):
        async with agent(server.target, fleet, drain_s=0.2):
            task = await client.submit(call("fail_until", attempt=1))
            slow = await client.submit(call("nap", seconds=1.5))
            await task.result("20s")
            await until_claimed(client, slow.task_id)
        names = [type(r.event).__name__ for r in (await client.get(slow.task_id)).events]
        assert names[:3] == ["TaskQueued", "TaskClaimed", "TaskReturned"]
        async with agent(server.target, fleet):
            outcome = await slow.result("20s")
    assert (outcome.state, outcome.attempts) == ("completed", 2)


async def until_claimed(client: Client, task_id: str) -> None:
    await wait_for(client.fleet, "TaskClaimed", task_id=task_id)
