"""The order in which lanes are asked."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


HIGH = [Lane(queue, "high") for queue in ("one", "two", "three")]


@pytest.mark.parametrize("free_count", [1, 2, 3, 8, 50])
def test_queues_that_all_wait_get_starts_by_their_weights(free_count: int) -> None:
    order = LaneOrder(HIGH, {"one": 3, "three": 2})
    started = starts(order, set(HIGH), free_count, 600 // free_count)
    for end in range(free_count, len(started) + 1, free_count):
        counts = Counter(lane.queue for lane in started[:end])
        for queue, weight in (("one", 3), ("two", 1), ("three", 2)):
            assert abs(counts[queue] - end * weight / 6) <= 1, (end, counts)


def test_an_empty_queue_takes_nothing_from_the_proportion_of_the_others() -> None:
    for free_count in (1, 2, 7):
        order = LaneOrder(HIGH, {"one": 3}, is_asked=lambda lane: lane != HIGH[2])
        counts = Counter(starts(order, set(HIGH[:2]), free_count, 400))
        assert counts[HIGH[0]] == pytest.approx(300 * free_count, abs=free_count + 3)


def test_weights_count_within_each_priority() -> None:
    order = LaneOrder(LANES, {"one": 3})
    counts = Counter(starts(order, set(LANES), 1, 6400))
    for priority in PRIORITIES:
        one, two = counts[Lane("one", priority)], counts[Lane("two", priority)]
        assert one == pytest.approx(3 * two, rel=0.02), priority
    assert counts[Lane("two", "low")] == pytest.approx(100, abs=2)


def test_what_a_queue_leaves_others_take() -> None:
    order = LaneOrder(HIGH, {"one": 9})
    started = starts(order, {HIGH[1]}, 4, 10)
    assert Counter(started) == {HIGH[1]: 40}


@given(
    weights=st.tuples(*[st.integers(1, 20)] * 3),
    free_count=st.integers(1, 40),
    rounds=st.integers(1, 30),
)
def test_a_queue_that_was_empty_for_long_is_owed_one_round(
    weights: tuple[int, int, int], free_count: int, rounds: int
) -> None:
    order = LaneOrder(HIGH, {"one": weights[0], "two": weights[1], "three": weights[2]})
    starts(order, {HIGH[0]}, free_count, 300)
    total = sum(weights)
    most = 3 * max(free_count, total)
    after = starts(order, set(HIGH), free_count, rounds)
    for lane, weight in zip(HIGH, weights, strict=True):
        due = len(after) * weight / total
        assert abs(after.count(lane) - due) <= most, lane


def test_equal_weights_are_no_weights() -> None:
    plain, equal = LaneOrder(LANES), LaneOrder(LANES, {"one": 7, "two": 7})
    assert [plain.plan(3) for _ in range(4)] == [equal.plan(3) for _ in range(4)]
