"""Tasks that were offered on a derived queue count for the queue that they belong to."""

from __future__ import annotations

import pytest

from fleetlog.projections.store import Store
from fleetlog.schemas.events import QueueDerived, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import Log, claim, make, started
from tests.unit.projections.reading import rows

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
def test_the_queue_is_the_base_from_the_word_about_it_on(store: Store, batch: int) -> None:
    messages = written().messages
    for begin in range(0, len(messages), batch):
        store.apply(messages[begin : begin + batch])
    found = rows(store, "SELECT task_id, queue, requires FROM tasks ORDER BY submitted_at")
    assert [tuple(row.values()) for row in found] == [
        ("early", GPU.offered_on, {"gpu": "yes"}),
        ("a", "ml", {"gpu": "yes"}),
        ("b", "ml", {}),
    ]
    events = rows(store, "SELECT queue FROM events WHERE task_id = 'a' ORDER BY seq")
    assert [row["queue"] for row in events] == ["ml", "ml"]
    assert rows(store, "FROM derived_queues") == [
        {"queue": GPU.offered_on, "base": "ml", "requires": {"gpu": "yes"}, "seq": 3}
    ]
    depth = rows(store, "SELECT queue, tasks FROM queue_depth WHERE queue = 'ml'")
    assert [row["tasks"] for row in depth] == [2]
    needs = rows(
        store, "SELECT requires, queued, claimed FROM queue_requirements WHERE queue = 'ml'"
    )
    assert sorted((len(r["requires"]), r["queued"], r["claimed"]) for r in needs) == [
        (0, 1, 0),
        (1, 0, 1),
    ]
