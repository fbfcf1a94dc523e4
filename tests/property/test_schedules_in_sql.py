"""The view `schedules` and the pure core make the same of every log, however it is cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.bus.core.schedule import Schedule, evolve_schedule, instant_of, task_id_of
from fleetlog.projections.store import Store
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import (
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSet,
    TaskQueued,
)
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import FLEET, Log, make

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One for all examples: each goes on where the last one ended, with a schedule of its own."""
    made = empty_store(tmp_path_factory.mktemp("store") / "projection.duckdb", FLEET)
    yield made
    made.close()


def cut(messages: list[Stored], cuts: list[int]) -> Iterator[list[Stored]]:
    position, turn = 0, 0
    while position < len(messages):
        size = cuts[turn % len(cuts)]
        yield messages[position : position + size]
        position, turn = position + size, turn + 1


words_of_schedules = st.lists(
    st.sampled_from(("set", "set", "paused", "resumed", "removed", "fired", "revived", "unknown")),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=words_of_schedules, cuts=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_schedules_are_what_the_core_says(store: Store, words: list[str], cuts: list[int]) -> None:
    log = Log(store.checkpoint.seq + 1)
    name = f"s-{log.next_seq}"
    for word in words:
        _say_of_schedule(log, name, word)
    for batch in cut(log.messages, cuts):
        store.apply(batch)
    schedule, made = Schedule(name=name), {}
    for record in map(open_stored, log.messages):
        assert record.subject is not None
        if record.subject.kind == "schedule":
            schedule = evolve_schedule(schedule, record)
        elif (instant := instant_of(name, record.subject.id)) is not None:
            made[instant] = record.subject.id
    found = rows(store, f"FROM schedules WHERE name = '{name}'")
    rule = schedule.rule
    if rule is None:
        assert found == []
        return
    [row] = found
    assert (row["state"], row["set_at"]) == (schedule.status, schedule.set_at)
    assert (row["cron"], row["every_ms"]) == (rule.cron, rule.every_ms)
    assert row["zone"] == (rule.zone if rule.cron else None)
    assert (row["overlap"], row["handler"], row["queue"], row["executor"]) == (
        *(rule.overlap, rule.spec.handler, rule.spec.queue, rule.spec.executor),
    )
    last = max(made, default=None)
    assert (row["tasks"], row["last_instant"]) == (len(made), last)
    assert row["last_task_id"] == (made[last] if last else None)


def _say_of_schedule(log: Log, name: str, word: str) -> None:
    number = log.next_seq
    match word:
        case "set" if number % 2:
            rule = {"cron": "30 2 * * *", "zone": "Europe/Berlin", "overlap": "skip"}
            spec = TaskSpec(handler="h", executor="command", queue="gpu")
            log.schedule(name, make(ScheduleSet, spec=spec, digest="d", **rule))
        case "set":
            spec = TaskSpec(handler=f"h{number}")
            log.schedule(name, make(ScheduleSet, spec=spec, digest="d", every_ms=1_000 + number))
        case "paused":
            log.schedule(name, make(SchedulePaused))
        case "resumed":
            log.schedule(name, make(ScheduleResumed, actor="bob"))
        case "removed":
            log.schedule(name, make(ScheduleRemoved))
        case "unknown":
            log.raw(f"schedule.{name}.set", b'{"type":"schedule.moved","id":"e","v":1}')
        case _:
            instant = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number * 500)
            task_id = task_id_of(name, instant) + "-r1" * (word == "revived")
            spec = TaskSpec(handler="h", schedule=name)
            log.task(task_id, make(TaskQueued, spec=spec, digest="d"))
