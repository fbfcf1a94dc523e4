"""How many workers, and how queues share them: as people write it and as they read it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleetlog.agents.lanes import QueueShare
from fleetlog.cli.overview import AgentSeen, Overview
from fleetlog.cli.overview_text import describe
from fleetlog.cli.pool_options import check_reserve, shares_of, workers_of
from fleetlog.schemas.beats import WorkerBeat
from fleetlog.schemas.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "wanted"), [("4", (4, None)), ("2-16", (2, 16)), ("3-3", (3, None)), ("1-2", (1, 2))]
)
def test_workers_are_a_number_or_a_range(text: str, wanted: tuple[int, int | None]) -> None:
    assert workers_of(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "0", "0-4", "5-4", "-4", "4-", "2..4", "many", "99999", "1-2-3"]
)
def test_other_numbers_of_workers_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--workers"):
        workers_of(text)


def test_a_reserve_leaves_slots_for_others() -> None:
    assert check_reserve(0, 1) == 0
    assert check_reserve(3, 4) == 3
    assert check_reserve(7, 2, concurrency=4) == 7
    with pytest.raises(InvalidInput, match=r"the agent has 8 .* at most 7"):
        check_reserve(8, 2, concurrency=4)


def test_queues_may_have_a_limit_and_a_weight() -> None:
    assert shares_of(None) == {"default": QueueShare()}
    assert shares_of(["a", "b:max=2", "c:max=3,weight=4", "d,weight=5", "e:weight=6"]) == {
        "a": QueueShare(),
        "b": QueueShare(running_max=2),
        "c": QueueShare(running_max=3, weight=4),
        "d": QueueShare(weight=5),
        "e": QueueShare(weight=6),
    }


@pytest.mark.parametrize(
    "text",
    [
        "a:",
        "a:max",
        "a:max=0",
        "a:max=-1",
        "a:max=two",
        "a:max=1,max=2",
        "a:most=1",
        "",
        "a b:max=1",
    ],
)
def test_other_words_about_a_queue_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        shares_of([text])


@pytest.mark.parametrize(
    ("most", "reserve", "text"),
    [
        (16, 0, ", workers 2 of 2-16, queues"),
        (16, 3, ", workers 2 of 2-16, 3 reserved for high, queues"),
        (None, 1, ", 1 reserved for high, queues"),
        (None, 0, ", queues"),
    ],
)
def test_status_shows_how_many_workers_of_how_many(
    most: int | None, reserve: int, text: str
) -> None:
    states = ("idle", "busy", "stopping")
    agent = AgentSeen(
        agent_id="a1",
        host="cube",
        state="running",
        queues=("default",),
        heard_at=datetime(2026, 1, 1, tzinfo=UTC),
        workers=tuple(WorkerBeat(worker_id=f"w-{state}", state=state) for state in states),
        workers_min=2,
        workers_max=most,
        reserve_high=reserve,
    )
    seen = Overview(
        fleet="main",
        url="nats://127.0.0.1",
        durability="always",
        is_ready=True,
        lack=None,
        log_end=1,
        agents=(agent,),
        projector=None,
        queues=None,
        paused=(),
        last_minute=None,
    )
    assert f"a1 on cube, running{text} default" in describe(seen)
