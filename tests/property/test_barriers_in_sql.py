"""What SQL tells of barriers is what the log says, in the middle of a random schedule and at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.barrier_reading import Reading
from support.join_world import World
from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.projections.store import Store
from fleetlog.schemas.events import BarrierAbandoned, BarrierReleased, verb_of
from fleetlog.schemas.fan_outs import FanOutSpec
from tests.property.test_joins import Chance, quiet, step

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    return iter(tmp_path_factory.mktemp("stores") / f"{n}.duckdb" for n in range(10**6))


@settings(
    max_examples=16,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(10, 80),
    may_cancel=st.booleans(),
    cut=st.integers(1, 40),
)
def test_barriers_are_what_the_log_says(
    folder: Iterator[Any], seed: int, steps: int, may_cancel: bool, cut: int
) -> None:
    async def live() -> None:
        chance, world = Chance(seed, may_cancel=may_cancel), World()
        store = empty_store(next(folder), "main")
        try:
            for _ in range(steps):
                await step(world, chance)
            compare(store, world, cut)
            await quiet(world, chance)
            compare(store, world, cut)
        finally:
            store.close()

    asyncio.run(live())


def compare(store: Store, world: World, cut: int) -> None:
    messages = world.log._messages
    for start in range(store.checkpoint.seq, len(messages), cut):
        store.apply(messages[start : start + cut])
    reading = Reading(world.records(), world.kept)
    found = {row["barrier_id"]: row for row in rows(store, "FROM barriers")}
    assert set(found) == set(reading.openings)
    for barrier_id, row in found.items():
        plan = reading.plan(barrier_id)
        assert row["expected"] == plan.count
        assert row["continuation_id"] == (plan.then.task_id if plan.then else None)
        compare_end(reading, barrier_id, row)
        compare_members(store, reading, barrier_id, plan)


def compare_end(reading: Reading, barrier_id: str, row: dict[str, Any]) -> None:
    ends = reading.ends[barrier_id]
    if not ends:
        assert row["state"] == "open"
        if reading.plan(barrier_id).members_ref is None:
            counts = count(reading, barrier_id)
            assert (row["settled"], row["succeeded"]) == counts
        return
    event = ends[0].event
    assert isinstance(event, BarrierReleased | BarrierAbandoned)
    assert (row["state"], row["ended_at"]) == (verb_of(event), ends[0].stored_at)
    if isinstance(event, BarrierReleased) or event.expected:
        assert (row["settled"], row["succeeded"]) == (event.settled, event.succeeded)
    elif reading.plan(barrier_id).members_ref is None:
        counts = count(reading, barrier_id, before=ends[0].seq)
        assert (row["settled"], row["succeeded"]) == counts


def count(reading: Reading, barrier_id: str, before: int = 2**62) -> tuple[int, int]:
    outcomes = [reading.outcome(member.task_id) for member in reading.members(barrier_id)]
    settled = [each for each in outcomes if each is not None and each.seq < before]
    return len(settled), sum(map(reading.is_success, settled))


def compare_members(store: Store, reading: Reading, barrier_id: str, plan: FanOutSpec) -> None:
    query = f"FROM barrier_members WHERE barrier_id = '{barrier_id}' ORDER BY position NULLS LAST"
    found = rows(store, query)
    places = {member.task_id: n for n, member in enumerate(reading.members(barrier_id), 1)}
    for row in found:
        task_id = row["task_id"]
        assert row["position"] in (None, places[task_id])
        assert row["state"] == expected_state(reading, task_id, row["state"])
    if plan.members_ref is None:
        assert [row["task_id"] for row in found] == list(places)
    assert len({row["task_id"] for row in found}) == len(found)


def expected_state(reading: Reading, task_id: str, state: str | None) -> str | None:
    outcome = reading.outcome(task_id)
    if outcome is None:
        assert state in (None, "held", "queued", "claimed", "waiting", "open")
        return state
    event = outcome.event
    if isinstance(event, BarrierAbandoned):
        return "failed" if event.why == "policy" else "cancelled"
    if isinstance(event, BarrierReleased):
        return "completed"
    return verb_of(event)  # type: ignore[arg-type]  # the world writes nothing unknown
