"""A coordinator's snapshot: it gives the same state back, or nothing."""

from __future__ import annotations

import msgspec
import pytest

from fleetlog.bus import snapshots as module
from fleetlog.bus.core import Claim, Queue, RequestCancel, Submit, Task
from fleetlog.bus.log import entry
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.bus.objects import MemoryObjects
from fleetlog.bus.rules import Decided, execute, load_task
from fleetlog.bus.snapshots import NAME, Snapshots
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.events import AgentLost, AgentStarted, ScheduleSet
from fleetlog.schemas.specs import TaskSpec, payload_digest
from fleetlog.schemas.subjects import Subject


async def log_with_tasks(fleet: str = "main", count: int = 50) -> MemoryLog:
    log = MemoryLog(fleet)
    for number in range(count):
        spec = TaskSpec(
            handler="h",
            args=msgspec.Raw(msgspec.json.encode({"line": f"one\ntwo \u2028 {number}"})),
            delay_ms=1_000 * (number % 3),
        )
        submit = Submit(id=f"s{number}", spec=spec, digest=payload_digest(spec))
        task = await load_task(log, f"t{number}")
        assert isinstance(await execute(log, submit, task), Decided)
    for number in range(0, count, 5):
        command = RequestCancel(id=f"c{number}")
        await execute(log, command, await load_task(log, f"t{number}"))
    stamp = {"id": "e", "occurred_at": log.now()}
    started = AgentStarted(
        host="h", pid=1, version="1", queues=(), workers=1, concurrency=1, **stamp
    )
    for agent_id in ("a1", "a2"):
        seq = await log.append(entry(Subject(fleet, "agent", agent_id, "started"), 0, started))
    lost = AgentLost(silent_ms=3_000, **stamp)
    await log.append(entry(Subject(fleet, "agent", "a2", "lost"), seq, lost))
    for name, rule in (("s1", {"cron": "30 2 * * *"}), ("s2", {"every_ms": 60_000})):
        spec = TaskSpec(handler="h", args=msgspec.Raw(b'{"a": 1}'))
        event = ScheduleSet(spec=spec, digest="d", **rule, **stamp)
        await log.append(entry(Subject(fleet, "schedule", name, "set"), 0, event))
    return log


async def log_claim(log: MemoryLog, key: str, host: str) -> None:
    """A task with an affinity that a host has."""
    spec = TaskSpec(handler="h", affinity=key)
    task = Task(id=key)
    for command in (
        Submit(id="s", spec=spec, digest="d"),
        Queue(id="q"),
        Claim(id="c", offer=0, agent_id="a0", worker_id="w", host=host),
    ):
        if isinstance(command, Claim):
            command = msgspec.structs.replace(command, offer=task.offer)  # noqa: PLW2901
        assert isinstance(await execute(log, command, task), Decided)
        task = await load_task(log, key)


async def folded(log: MemoryLog) -> Unsettled:
    unsettled = Unsettled()
    async for page in log.read():
        for stored in page:
            unsettled.take(stored)
    return unsettled


async def test_a_snapshot_gives_the_state_back() -> None:
    log, objects = await log_with_tasks(), MemoryObjects()
    before = await folded(log)
    before.violation_count = 3
    await Snapshots(objects, log).save(before)
    after = await Snapshots(objects, log).load()
    assert after is not None
    assert (after.seq, after.violation_count) == (before.seq, 3)
    assert after.tasks == before.tasks
    assert (after.agents, after.ended) == (before.agents, before.ended)
    assert set(after.schedules.known) == {"s1", "s2"}
    assert after.schedules.known == before.schedules.known
    assert after.schedules.next_at() == before.schedules.next_at()
    assert after.next_at() == before.next_at()
    assert after.acts(log.now(), 1000) == before.acts(log.now(), 1000)


async def test_a_snapshot_knows_where_affinity_keys_are_at_home() -> None:
    log, objects = await log_with_tasks(), MemoryObjects()
    for number in range(3):
        await log_claim(log, f"key{number}", f"h{number}")
    before = await folded(log)
    await Snapshots(objects, log).save(before)
    after = await Snapshots(objects, log).load()
    assert after is not None
    assert [place.host for place in after.affinities.packed()] == ["h0", "h1", "h2"]
    assert after.tasks == before.tasks


async def test_without_a_snapshot_there_is_nothing() -> None:
    assert await Snapshots(MemoryObjects(), await log_with_tasks()).load() is None


async def test_a_snapshot_of_another_version_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, objects = await log_with_tasks(), MemoryObjects()
    await Snapshots(objects, log).save(await folded(log))
    monkeypatch.setattr(module, "FOLD_VERSION", 99)
    assert await Snapshots(objects, log).load() is None


@pytest.mark.parametrize(("fleet", "count"), [("other", 50), ("main", 50), ("main", 10)])
async def test_a_snapshot_of_another_fleet_or_log_is_thrown_away(fleet: str, count: int) -> None:
    log, objects = await log_with_tasks(), MemoryObjects()
    await Snapshots(objects, log).save(await folded(log))
    assert await Snapshots(objects, await log_with_tasks(fleet, count)).load() is None


@pytest.mark.parametrize("cut", [0, 1, 200, -1])
async def test_a_damaged_snapshot_is_thrown_away(cut: int) -> None:
    log, objects = await log_with_tasks(), MemoryObjects()
    await Snapshots(objects, log).save(await folded(log))
    objects.held[NAME] = objects.held[NAME][:cut]
    assert await Snapshots(objects, log).load() is None
    objects.held[NAME] = module._pack([{"stamp": 1}])
    assert await Snapshots(objects, log).load() is None
