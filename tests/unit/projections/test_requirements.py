"""Tasks that were offered on a derived queue count for the queue that they belong to."""

from __future__ import annotations

import pytest
from support.projection_rows import rows

from fleetlog.projections.store import Store
from fleetlog.schemas.events import QueueDerived, TaskHeld, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import Log, claim, make, started

GPU = TaskSpec(handler="h", queue="ml", requires={"gpu": "yes"})
LANE = f"{GPU.offered_on}.normal"


def written() -> Log:
    log = Log()
    log.agent("a1", started(queues=("ml",)))
    log.task("early", make(TaskQueued, spec=GPU, digest="d"), LANE)
    log.queue(GPU.offered_on, make(QueueDerived, queue="ml", requires=GPU.requires))
    offer = log.task("a", make(TaskQueued, spec=GPU, digest="d"), LANE)
    log.queue(GPU.offered_on, make(QueueDerived, queue="other", requires={}))
    log.task("a", claim(offer), LANE)
    log.task("b", make(TaskQueued, spec=TaskSpec(handler="h", queue="ml"), digest="d"), "ml.normal")
    return log


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_a_task_is_on_the_queue_that_was_asked_for(store: Store, batch: int) -> None:
    """Seed 5520: also where the word about a derived queue was lost, and came again behind the task."""
    messages = written().messages
    for begin in range(0, len(messages), batch):
        store.apply(messages[begin : begin + batch])
    found = rows(store, "SELECT task_id, queue, requires FROM tasks ORDER BY submitted_at")
    assert [tuple(row.values()) for row in found] == [
        ("early", "ml", {"gpu": "yes"}),
        ("a", "ml", {"gpu": "yes"}),
        ("b", "ml", {}),
    ]
    events = rows(store, "SELECT queue FROM events WHERE task_id = 'a' ORDER BY seq")
    assert [row["queue"] for row in events] == ["ml", "ml"]
    assert rows(store, "FROM derived_queues") == [
        {"queue": GPU.offered_on, "base": "ml", "requires": {"gpu": "yes"}, "seq": 3}
    ]
    depth = rows(store, "SELECT queue, tasks FROM queue_depth WHERE queue = 'ml'")
    assert [row["tasks"] for row in depth] == [3]
    needs = rows(
        store, "SELECT requires, queued, claimed FROM queue_requirements WHERE queue = 'ml'"
    )
    assert sorted((len(r["requires"]), r["queued"], r["claimed"]) for r in needs) == [
        (0, 1, 0),
        (1, 1, 1),
    ]


@pytest.mark.parametrize("batch", [1, 100])
def test_offers_say_where_they_stand(store: Store, batch: int) -> None:
    log = Log()
    plain = TaskSpec(handler="h", queue="ml", affinity="shop")
    there = plain.on_host("cube")
    log.queue(there.offered_on, make(QueueDerived, queue="ml", requires=there.requires))
    log.task("a", make(TaskHeld, spec=plain, digest="d"), "ml.normal")
    log.task("b", make(TaskHeld, spec=plain, digest="d"), "ml.normal")
    for task_id in ("a", "b"):
        offer = make(TaskQueued, spec=plain, digest="d", host="cube")
        log.task(task_id, offer, f"{there.offered_on}.normal")
    log.task("c", make(TaskHeld, spec=plain, digest="d"), "ml.normal")
    log.task("b", make(TaskQueued, spec=plain, digest="d"), "ml.normal")
    for begin in range(0, len(log.messages), batch):
        store.apply(log.messages[begin : begin + batch])
    found = rows(store, "SELECT offered_on, tasks, queued FROM queue_requirements")
    assert sorted((r["offered_on"] or "", r["tasks"], r["queued"]) for r in found) == [
        ("", 1, 0),
        ("ml", 1, 1),
        (there.offered_on, 1, 1),
    ]
    tasks = rows(store, "SELECT queue, requires, affinity, state FROM tasks ORDER BY task_id")
    assert [tuple(row.values()) for row in tasks] == [
        ("ml", {}, "shop", "queued"),
        ("ml", {}, "shop", "queued"),
        ("ml", {}, "shop", "held"),
    ]
