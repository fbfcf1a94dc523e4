"""What `task show` makes of a history."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fleetlog.bus.core.queues import QueueState
from fleetlog.bus.outcomes import History
from fleetlog.cli.task_history import attempts_of, describe, task_fields, waits_for
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.events import Usage, WorktreeReport
from tests.given import (
    at,
    cancel_requested,
    claimed,
    completed,
    fold,
    held,
    queued,
    record,
    retried,
    returned,
)


def rows(*events: Any) -> list[tuple[int, int, str | None]]:
    records = [record(seq, event) for seq, event in enumerate(events, 1)]
    return [(row.attempt, row.fence, row.outcome) for row in attempts_of(records, "t1")]


def test_attempt_that_runs_has_no_outcome() -> None:
    assert rows(queued(), claimed()) == [(1, 2, None)]


def test_attempts_end_as_their_events_say() -> None:
    events = (queued(), claimed(), retried(2), queued(), claimed(4, 2), returned(5, 2), queued())
    assert rows(*events, claimed(7, 3), completed(8, 3)) == [
        (1, 2, "retried"),
        (2, 5, "returned"),
        (3, 8, "completed"),
    ]


def test_claim_over_a_dead_holder_ends_the_attempt_before() -> None:
    assert rows(queued(), claimed(), claimed(1, 2, over=2)) == [(1, 2, "lost"), (2, 3, None)]


def test_stale_results_and_cancel_requests_end_nothing() -> None:
    assert rows(queued(), claimed(), completed(99), cancel_requested()) == [(1, 2, None)]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ((held(),), "time: may be queued at 2026-01-01 00:00:05.000Z, a coordinator to do it"),
        ((held(delay_ms=60_000),), "time: may be queued at 2026-01-01 00:01:00.000Z"),
        ((queued(), claimed(), retried(2, delay_ms=60_000)), "retry at 2026-01-01 00:01:02.000Z"),
        ((queued(queue="gpu"),), "an agent with a free slot for queue gpu"),
        ((queued(), claimed()), None),
        ((queued(), claimed(), cancel_requested()), "its agent, to end it"),
        ((queued(), claimed(), completed(2)), None),
    ],
)
def test_waits_for(events: tuple[Any, ...], says: str | None) -> None:
    assert waits_for(fold(*events), at(30)) == says


def test_what_an_attempt_left_in_its_worktree_is_shown() -> None:
    kept = WorktreeReport(
        repository="/src/my shop",
        base="0123456789abcdef",
        branch="fleetlog/t1/1",
        commits=2,
        files_changed=3,
        insertions=40,
        deletions=5,
        kept="/data/t1.1",
        note="look\nout",
    )
    empty = WorktreeReport(repository="/src/my shop", base="0123456789abcdef")
    events = (
        *(queued(), claimed(), msgspec.structs.replace(retried(2), worktree=kept)),
        *(queued(), claimed(4, 2), msgspec.structs.replace(completed(5, 2), worktree=empty)),
    )
    history = History(fold(*events), tuple(record(seq, e) for seq, e in enumerate(events, 1)))
    assert [row.worktree for row in attempts_of(history.events, "t1")] == [kept, empty]
    text = describe(history, at(0))
    assert "      work fleetlog/t1/1, commits 2, files 3, lines +40 -5\n" in text
    assert "        of /src/my shop, from 0123456789ab\n" in text
    assert "      kept /data/t1.1, for a while\n" in text
    assert "      note look out\n" in text
    assert "      work no commits\n" in text


def test_the_session_of_an_attempt_and_what_it_used_are_shown() -> None:
    usage = Usage(input_tokens=1100, output_tokens=50, cost_micro_usd=12_345, model="m\nx")
    failed = msgspec.structs.replace(retried(2), session_id="s-1", usage=usage)
    events = (queued(), claimed(), failed, queued(), claimed(4, 2), completed(5, 2))
    history = History(fold(*events), tuple(record(seq, e) for seq, e in enumerate(events, 1)))
    first, second = task_fields(history, at(0))["attempts"]
    assert (first.session_id, first.cost_usd, first.input_tokens) == ("s-1", 0.012345, 1100)
    assert (second.session_id, second.cost_usd, second.output_tokens) == (None, None, None)
    text = describe(history, at(0))
    assert "      used $0.0123, tokens read 1100, written 50, m x\n   session s-1\n" in text
    assert text.count(" used ") == text.count(" session ") == 1


def test_unknown_event_is_flagged() -> None:
    events = (
        queued(key="k", labels={"a": "b"}, parent_id="p1"),
        UnknownEvent("task.floated", "new"),
    )
    history = History(fold(*events), tuple(record(seq, e) for seq, e in enumerate(events, 1)))
    shown = task_fields(history, at(0))["events"][1]
    assert (shown["type"], shown["unknown"]) == ("task.floated", "new")
    text = describe(history, at(0))
    assert "task.floated           unknown event: new" in text
    assert "labels     a=b" in text
    assert "parent     p1" in text


def test_history_that_was_trimmed_shows_its_outcome() -> None:
    end = completed(7, 2)
    history = History(fold(record(8, end)), (record(8, end),))
    fields = task_fields(history, at(0))
    assert (fields["state"], fields["queue"], fields["attempts"]) == ("completed", None, [])
    assert "state      completed" in describe(history, at(0))


def test_an_offered_task_waits_for_its_paused_queue() -> None:
    task = fold(queued(queue="gpu"))
    paused = QueueState(
        queue="gpu", is_paused=True, paused_at=at(7), actor="ann", reason="an upgrade"
    )
    assert waits_for(task, at(9), paused) == (
        "queue gpu, which is paused by ann at 2026-01-01 00:00:07.000Z (an upgrade):"
        " `fleetlog queue resume gpu` ends it"
    )
    resumed = QueueState(queue="gpu", actor="ann")
    assert waits_for(task, at(9), resumed) == "an agent with a free slot for queue gpu"


def test_a_task_with_an_affinity_waits_for_its_host_and_then_for_any() -> None:
    key = {"affinity": "shop", "affinity_ms": 5_000}
    early = fold(held(60_000, **key))
    assert "may be queued at" in (waits_for(early, at(1)) or "")
    due = fold(held(0, **key))
    assert waits_for(due, at(1)) == "a coordinator, to say on which host it is offered first"
    offered = fold(queued(progress={"host": "cube"}, **key))
    assert waits_for(offered, at(1), None, "gate") == (
        "an agent of host cube with a free slot for queue default;"
        " any agent's from 2026-01-01 00:00:05.000Z on"
    )
    assert waits_for(fold(queued(**key)), at(1)) == "an agent with a free slot for queue default"


def test_a_question_is_what_a_task_waits_for() -> None:
    asking = msgspec.structs.replace(returned(2), error_class="needs_input", error="which\none?")
    task = fold(queued(), claimed(), asking)
    assert waits_for(task, at(9)) == ('an answer to "which one?": `fleetlog task answer t1 TEXT`')
