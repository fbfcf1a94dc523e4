"""The order in which lanes are asked."""

from __future__ import annotations

from collections import Counter

from fleetlog.agents.lanes import LaneOrder
from fleetlog.bus.offers import Lane
from fleetlog.schemas.subjects import PRIORITIES

LANES = [Lane(queue, priority) for queue in ("one", "two") for priority in PRIORITIES]


def starts(order: LaneOrder, waiting: set[Lane], free_count: int, rounds: int) -> list[Lane]:
    """What is started when the lanes in `waiting` never run dry."""
    started: list[Lane] = []
    for _ in range(rounds):
        left = free_count
        for lanes, step in order.plan(free_count):
            most = step
            for lane in (each for each in lanes if each in waiting):
                count = min(most, left)
                for _ in range(count):
                    order.note_start(lane)
                    started.append(lane)
                left -= count
                most -= count
    return started


def test_the_first_to_be_asked_is_high() -> None:
    assert LaneOrder(LANES).plan(1)[0][0][0].priority == "high"


def test_when_all_wait_one_start_in_sixteen_is_low_and_one_in_eight_normal() -> None:
    for free_count in (1, 3, 10, 64):
        started = [lane.priority for lane in starts(LaneOrder(LANES), set(LANES), free_count, 200)]
        width = max(16, free_count)
        for begin in range(0, len(started) - width, width):
            window = Counter(started[begin : begin + width])
            assert window["low"] >= 1, (free_count, begin, window)
            assert window["normal"] >= 1
            assert window["high"] > window["normal"]


def test_high_is_next_however_much_low_was_started() -> None:
    order = LaneOrder(LANES)
    low = Lane("one", "low")
    starts(order, {low}, 1, 500)
    assert order.plan(1)[-3][0][0].priority == "high"
    assert all(lanes[0].priority != "low" for lanes, _ in order.plan(1)[:-1])


def test_queues_of_one_priority_take_turns() -> None:
    high = {lane for lane in LANES if lane.priority == "high"}
    counts = Counter(lane.queue for lane in starts(LaneOrder(LANES), high, 1, 100))
    assert counts == {"one": 50, "two": 50}


def test_a_lane_that_was_empty_for_long_is_owed_no_burst() -> None:
    order = LaneOrder(LANES)
    starts(order, {Lane("one", "high")}, 1, 1000)
    low = [most for lanes, most in order.plan(4) if lanes[0].priority == "low"]
    assert low == [1, 4]
