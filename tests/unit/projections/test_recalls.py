"""An offer may be taken back, and what is held be held anew; a claim stands, and so does a wait."""

from __future__ import annotations

import pytest
from support.expected_tasks import fold
from support.projection_rows import rows

from fleetlog.projections.store import Store
from fleetlog.schemas.events import TaskHeld, TaskQueued, TaskRetried
from fleetlog.schemas.specs import TaskSpec
from tests.unit.projections.histories import Log, claim, instant, make

SPEC = TaskSpec(handler="greet")
T0_US = 1_767_225_600_000_000


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_an_offer_is_taken_back_and_a_claim_is_not(store: Store, size: int) -> None:
    log = Log()
    log.task("t", make(TaskQueued, spec=SPEC, digest="d"))
    log.task("t", make(TaskHeld, spec=SPEC, digest="d"))
    log.task("t", make(TaskHeld, spec=SPEC, digest="d"))
    offer = log.task("t", make(TaskQueued, spec=SPEC, digest="d"))
    fence = log.task("t", claim(offer))
    of_claimed = log.task("t", make(TaskHeld, spec=SPEC, digest="d"))
    end = {"attempts": 1, "error_class": "error", "error": "no", "delay_ms": 0}
    log.task("t", make(TaskRetried, fence=fence, **end))
    log.task("t", make(TaskHeld, spec=SPEC, digest="d"))
    log.task("t", make(TaskQueued, spec=SPEC, digest="d", attempt=2, failures=1))
    last = log.task("t", make(TaskHeld, spec=SPEC, digest="d"))
    for start in range(0, len(log.messages), size):
        store.apply(log.messages[start : start + size])
    (task,) = rows(store, "SELECT state, attempts, failures, due_at, queued_at FROM tasks")
    assert task == {
        "state": "held",
        "attempts": 1,
        "failures": 1,
        "due_at": instant(T0_US + last * 1_000_000),
        "queued_at": instant(T0_US + 1_000_000),
    }
    violations = rows(store, "SELECT seq FROM events WHERE is_violation ORDER BY seq")
    assert [row["seq"] for row in violations] == [of_claimed]
    expected = fold("t", log.messages)
    assert expected.not_permitted == {of_claimed}
    assert expected.task.status == "held"
