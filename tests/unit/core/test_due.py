"""What time and a crash leave to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest

from fleetlog.bus.core import (
    AgentState,
    Queue,
    RequestCancel,
    Return,
    Task,
    decide,
    due,
    next_due_at,
    resume,
)
from fleetlog.bus.core.commands import Expire
from fleetlog.bus.core.decide import passed_limit
from fleetlog.schemas.events import TaskCancelled, TaskEvent, TaskReturned
from tests.given import (
    at,
    cancel_requested,
    claimed,
    completed,
    fold,
    held,
    queued,
    retried,
    spec,
)

Row = tuple[list[TaskEvent], float | None, str | None]
"""Events, the second at which something comes due, and what."""

ROWS: dict[str, Row] = {
    "a held task is queued after its delay": ([held(5_000)], 5, "queue"),
    "a held task may expire first": ([held(60_000, expires_ms=5_000)], 5, "expire"),
    "at one instant a held task expires": ([held(5_000, expires_ms=5_000)], 5, "expire"),
    "a queued task without limits waits for a claim": ([queued()], None, None),
    "a queued task starts within": ([queued(start_within_ms=3_000)], 3, "expire"),
    "a queued task expires": ([queued(expires_ms=4_000)], 4, "expire"),
    "the nearer limit counts": ([queued(expires_ms=4_000, start_within_ms=3_000)], 3, "expire"),
    "a running task is its agent's": ([queued(expires_ms=1), claimed()], None, None),
    "a waiting task is queued after its wait": ([queued(), claimed(), retried(2)], 3, "queue"),
    "a waiting task may expire first": (
        [queued(expires_ms=2_500), claimed(), retried(2)],
        2.5,
        "expire",
    ),
    "start within does not count while a task waits": (
        [queued(start_within_ms=1_500), claimed(), retried(2, delay_ms=9_000)],
        11,
        "queue",
    ),
    "a settled task is left alone": ([queued(expires_ms=1), claimed(), completed(2)], None, None),
    "a trimmed task is left alone": ([completed(2)], None, None),
    "a task without events is left alone": ([], None, None),
}
KINDS = {"queue": Queue, "expire": Expire}


@pytest.mark.parametrize("case", ROWS)
def test_what_comes_due_and_when(case: str) -> None:
    given, second, act = ROWS[case]
    task = fold(*given)
    if second is None or act is None:
        assert next_due_at(task) is None
        assert due(task, at(10**6)) is None
        return
    assert next_due_at(task) == at(second)
    assert due(task, at(second - 0.001)) is None
    command = due(task, at(second))
    assert isinstance(command, KINDS[act])
    assert command.id == f"t1-{task.version}-{act}"


def test_what_is_due_is_not_refused() -> None:
    for given, second, _ in ROWS.values():
        if second is not None:
            task = fold(*given)
            command = due(task, at(second))
            assert command is not None
            assert not hasattr(decide(command, task, at(second)), "code")


def test_two_coordinators_do_the_same_act() -> None:
    task = fold(held(5_000))
    assert due(task, at(5)) == due(task, at(500))


def test_a_waiting_task_whose_end_was_asked_for_owes_its_cancel() -> None:
    task = fold(queued(), claimed(), cancel_requested(), retried(2))
    command = resume(task)
    assert command == RequestCancel(id="t1-4-cancel")
    assert isinstance(decide(command, task, at(9)), TaskCancelled)


@pytest.mark.parametrize(
    "given",
    [
        [],
        [held()],
        [queued()],
        [queued(), claimed()],
        [queued(), claimed(), cancel_requested()],
        [queued(), claimed(), retried(2)],
        [queued(), claimed(), cancel_requested(), completed(2)],
    ],
)
def test_nothing_else_is_owed(given: list[TaskEvent]) -> None:
    assert resume(fold(*given)) is None


def test_a_limit_beyond_the_end_of_time_never_passes() -> None:
    near_the_end = datetime(9999, 12, 31, tzinfo=UTC)
    task = fold(queued(expires_ms=10**11, progress={"submitted_at": near_the_end}))
    assert task.submitted_at == near_the_end
    assert passed_limit(task, at(10**9)) is None
    assert next_due_at(task) == datetime.max.replace(tzinfo=UTC)
    assert due(task, at(10**9)) is None


def test_a_task_whose_instants_are_missing_never_comes_due() -> None:
    """`evolve` makes no such task; a stored snapshot of another version could."""
    task = Task(id="t1", status="queued", spec=spec(start_within_ms=1, expires_ms=1))
    assert next_due_at(task) is None
    assert due(task, at(9)) is None


@pytest.mark.parametrize("status", ["lost", "stopped"])
def test_a_claim_ends_with_its_agent(status: Literal["lost", "stopped"]) -> None:
    task = fold(queued(), claimed())
    assert task.lease is not None
    holder = AgentState(id=task.lease.agent_id, status=status, version=9, end_id="the-end")
    command = resume(task, holder)
    assert isinstance(command, Return)
    assert (command.fence, command.error_class) == (task.lease.fence, "lost")
    assert (command.id, command.cause) == (f"{task.id}-{task.version}-return", "the-end")
    event = decide(command, task, at(9))
    assert isinstance(event, TaskReturned)
    assert event.fence == task.lease.fence


def test_a_claim_goes_on_while_its_agent_does() -> None:
    task = fold(queued(), claimed())
    assert resume(task, AgentState(id="a1", status="draining", version=9)) is None
    assert resume(task) is None
    assert resume(fold(queued()), AgentState(id="a1", status="lost", version=9)) is None
