"""Which offers are stuck, told from what a lane's consumer says of itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetlog.bus.core import Refusal, Task, decide, evolve
from fleetlog.bus.core.stuck import LaneTasks, Progress, offer_again, stuck, suspects
from fleetlog.schemas.events import TaskQueued
from fleetlog.schemas.questions import Answer
from tests.given import T0, at, cancelled, claimed, fold_records, queued, record

LANE = ("default", "normal")


def on_offer(offer: int, **rules: Any) -> Task:
    """A task that was queued by event `offer`, at second `offer`."""
    whole = fold_records([record(offer, queued(**rules), at(offer))])
    return msgspec.structs.replace(whole, id=f"t{offer}")


def running(offer: int, fence: int = 0, **rules: Any) -> Task:
    task = on_offer(offer, **rules)
    return evolve(task, record(fence or offer + 100, claimed(offer)))


def found(
    tasks: list[Task], progress: Progress, later: list[Task] | None = None, now: float = 1000
) -> list[int]:
    lanes = suspects(tasks, at(now))
    known = {task.id: task for task in (tasks if later is None else later)}
    return [task.offer for task in stuck(lanes.get(LANE, LaneTasks([], [])), progress, known)]


def seen(delivered: int, ack_floor: int, unacked: int = 0) -> Progress:
    return Progress(delivered=delivered, ack_floor=ack_floor, unacked=unacked)


def test_only_what_has_been_on_offer_for_long_is_looked_at() -> None:
    tasks = [on_offer(1), on_offer(5), on_offer(6), running(2)]
    lanes = suspects(tasks, at(5))
    assert set(lanes) == {LANE}
    assert [task.offer for task in lanes[LANE].queued] == [1, 5]
    assert [task.id for task in lanes[LANE].claimed] == ["t2"]
    assert suspects([running(2), on_offer(6), Task(id="t9")], at(5)) == {}


def test_each_lane_is_looked_at_by_itself() -> None:
    tasks = [
        on_offer(1, priority="high"),
        on_offer(2, queue="gpu"),
        on_offer(3, requires={"gpu": "yes"}),
        on_offer(4, progress={"host": "h1"}, affinity="k"),
        on_offer(5),
    ]
    lanes = suspects(tasks, at(10))
    assert len(lanes) == 5
    on_host = [queue for queue, _ in lanes if queue.startswith("default-needs-host-h1-")]
    assert len(on_host) == 1
    assert [task.id for task in lanes[on_host[0], "normal"].queued] == ["t4"]


def test_one_lane_is_one_however_its_tasks_came_there() -> None:
    tasks = [
        on_offer(1, progress={"host": "h1"}, requires={"a": "1", "b": "2"}),
        on_offer(2, requires={"b": "2", "a": "1", "host": "h1"}),
        running(3, requires={"host": "h1", "b": "2", "a": "1"}),
    ]
    [lane] = suspects(tasks, at(10)).values()
    assert [task.id for task in lane.queued] == ["t1", "t2"]
    assert [task.id for task in lane.claimed] == ["t3"]


@pytest.mark.parametrize(
    ("progress", "wanted"),
    [
        (seen(0, 0), []),  # all of it is still to be given out
        (seen(3, 0, 3), []),  # an agent has them
        (seen(2, 2), [1, 2]),
        (seen(3, 3), [1, 2, 3]),
        (seen(3, 1, 2), [1]),
        (seen(3, 1, 1), [1]),  # one of the two, and nobody says which
        (seen(3, 1, 0), [1, 2, 3]),
        (seen(2, 1, 0), [1, 2]),
    ],
)
def test_what_is_pending_or_in_hand_is_not_stuck(progress: Progress, wanted: list[int]) -> None:
    assert found([on_offer(1), on_offer(2), on_offer(3)], progress) == wanted


def test_what_runs_keeps_its_own_offers_in_hand() -> None:
    tasks = [running(2), on_offer(3), running(4), on_offer(5)]
    assert found(tasks, seen(5, 1, 2)) == [3, 5]
    assert found(tasks, seen(5, 1, 3)) == []
    # One that was acknowledged while it runs accounts for none.
    assert found(tasks, seen(5, 2, 2)) == []
    assert found(tasks, seen(5, 2, 1)) == [3, 5]


def test_what_has_changed_since_proves_nothing() -> None:
    waits, runs = on_offer(3), running(2)
    answer = seen(3, 1, 1)
    assert found([waits, runs], answer) == [3]
    taken = evolve(waits, record(9, claimed(3)))
    assert found([waits, runs], answer, [taken, runs]) == []
    assert found([waits, runs], answer, [runs]) == []
    # The offer that was unacknowledged may have been the one that waits: what ran had perhaps ended before.
    ended = evolve(runs, record(200, cancelled(102)))
    assert found([waits, runs], answer, [waits, ended]) == []
    assert found([waits, runs], answer, [waits]) == []
    over = evolve(runs, record(200, claimed(2, attempt=2, over=102)))
    assert found([waits, runs], answer, [waits, over]) == []


def test_it_is_offered_again_as_it_was() -> None:
    answers = (Answer(question="which?", answer="this", actor=None, at=T0),)
    progress = {
        "host": "h1",
        "session_id": "s1",
        "attempt": 3,
        "failures": 1,
        "losses": 1,
        "answers": answers,
        "submitted_at": at(-5),
    }
    task = on_offer(7, progress=progress, affinity="k", limits=("l",))
    event = decide(offer_again(task), task, at(99))
    assert isinstance(event, TaskQueued)
    assert event.id == "t7-7-again"
    assert "stuck" in (event.reason or "")
    after = evolve(task, record(8, event, at(99)))
    assert after == msgspec.structs.replace(task, version=8, offer=8, since=at(99))
    assert decide(offer_again(task), after, at(99)) == Refusal("stale_offer", after)
    taken = evolve(task, record(8, claimed(7)))
    assert decide(offer_again(task), taken, at(99)) == Refusal("stale_offer", taken)


# What became of each offer, in their order: not given to anyone; in the hands of an agent that may claim it, or
# given back with a delay; running; acknowledged with its end in the log; acknowledged and never claimed.
fates = st.lists(st.sampled_from(("pending", "in hand", "running", "ended", "stuck")), max_size=9)


@given(fates=fates)
def test_what_agents_have_is_never_offered_again_and_what_none_has_is_when_it_can_be_told(
    fates: list[str],
) -> None:
    fates.sort(key=lambda fate: fate == "pending")
    tasks = [
        running(offer) if fate == "running" else on_offer(offer)
        for offer, fate in enumerate(fates, 1)
        if fate != "ended"
    ]
    given_out = [offer for offer, fate in enumerate(fates, 1) if fate != "pending"]
    unacked = [offer for offer in given_out if fates[offer - 1] in ("in hand", "running")]
    delivered = len(given_out)
    floor = min(unacked) - 1 if unacked else delivered
    lost = [offer for offer, fate in enumerate(fates, 1) if fate == "stuck"]
    again = found(tasks, seen(delivered, floor, len(unacked)))
    assert set(again) <= set(lost)
    if "in hand" not in fates:
        assert again == lost
    else:
        assert again == [offer for offer in lost if offer <= floor]
