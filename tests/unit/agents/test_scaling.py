"""How many workers a pool should have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetlog.agents.scaling import Change, Scaler, ScalingRule, Waiting, WorkerLoad

RULE = ScalingRule(workers_min=2, workers_max=10)


def loads(*held: int, finished: int = 0) -> list[WorkerLoad]:
    return [WorkerLoad(f"w{n}", count, finished) for n, count in enumerate(held, 1)]


def wait(count: int, oldest_s: float = 1.0, queue: str = "default") -> Waiting:
    return Waiting(queue, count, oldest_s)


def after(change: Change | None) -> int | None:
    return None if change is None else change.after


def test_nobody_looks_while_a_worker_is_idle() -> None:
    assert not Scaler(RULE).wants_look(0.0, 3, loads(1, 0, 1))
    assert Scaler(RULE).wants_look(0.0, 3, loads(1, 1, 1))


def test_nobody_looks_twice_within_a_second() -> None:
    scaler = Scaler(RULE)
    asked = [scaler.wants_look(at / 10, 2, loads(1, 1)) for at in range(25)]
    assert [n for n, is_asked in enumerate(asked) if is_asked] == [0, 10, 20]


def test_nobody_looks_at_the_most_or_without_a_worker_that_is_ready() -> None:
    assert not Scaler(RULE).wants_look(0.0, 10, loads(*[1] * 10))
    assert not Scaler(RULE).wants_look(0.0, 2, [])


def test_a_full_pool_grows_at_once_by_what_waits_and_says_why() -> None:
    found = [wait(2, 0.7), wait(3, 2.04, "gpu")]
    assert Scaler(RULE).decide(0.0, 2, loads(1, 1), found) == Change(
        before=2,
        after=7,
        why="all 2 workers were busy while 5 tasks waited, the oldest for 2.0 s",
        queue="gpu",
        waiting_count=5,
        oldest_wait_s=2.04,
    )


def test_a_pool_grows_to_its_most_only() -> None:
    assert after(Scaler(RULE).decide(0.0, 2, loads(1, 1), [wait(1000)])) == 10
    assert Scaler(RULE).decide(0.0, 10, loads(*[1] * 10), [wait(1000)]) is None


def test_what_has_just_come_is_no_reason() -> None:
    assert Scaler(RULE).decide(0.0, 2, loads(1, 1), [wait(9, 0.5)]) is None
    assert after(Scaler(RULE).decide(0.0, 2, loads(1, 1), [wait(9, 0.51)])) == 10


def test_workers_that_are_still_starting_take_what_waits() -> None:
    assert Scaler(RULE).decide(0.0, 6, loads(1, 1), [wait(4)]) is None
    assert after(Scaler(RULE).decide(0.0, 6, loads(1, 1), [wait(6)])) == 8


def test_one_worker_may_take_several() -> None:
    rule = ScalingRule(workers_min=1, workers_max=10, concurrency=4)
    assert after(Scaler(rule).decide(0.0, 1, loads(4), [wait(9)])) == 4
    assert Scaler(rule).decide(0.0, 1, loads(3), [wait(9)]) is None


def test_slots_that_are_reserved_do_not_keep_others_from_growing() -> None:
    scaler = Scaler(RULE)
    assert scaler.wants_look(0.0, 3, loads(1, 1, 0), 1)
    assert not scaler.wants_look(9.0, 3, loads(1, 0, 0), 1)
    grown = scaler.decide(0.0, 3, loads(1, 1, 0), [wait(2)], reserved_count=1)
    assert grown is not None
    assert grown.after == 5
    assert grown.why == (
        "2 of 3 workers were busy, 1 slot kept for high while 2 tasks waited, the oldest for 1.0 s"
    )
    assert scaler.decide(0.0, 3, loads(1, 0, 0), [wait(2)], reserved_count=1) is None


def test_a_pool_smaller_than_its_reserve_grows_beyond_it() -> None:
    grown = Scaler(RULE).decide(0.0, 2, loads(0, 0), [wait(1)], reserved_count=3)
    assert after(grown) == 4


def test_high_that_waits_uses_the_reserve_up_before_the_pool_grows() -> None:
    def grown(count: int, high: int, *held: int, reserved: int = 2) -> int | None:
        waiting = Waiting("default", count, 1.0, high)
        found = Scaler(RULE).decide(
            0.0, len(held), loads(*held), [waiting], reserved_count=reserved
        )
        return after(found)

    assert grown(3, 3, 1, 0, 0) == 4
    assert grown(4, 3, 1, 0, 0) == 5
    assert grown(3, 1, 1, 0, 0) == 5
    assert grown(2, 2, 1, 0, 0) is None
    assert grown(2, 2, 1, 1, reserved=0) == 4


def test_what_is_reserved_does_not_go_for_having_nothing_to_do() -> None:
    scaler = Scaler(RULE)
    for now_s in (0.0, 100.0):
        assert scaler.decide(now_s, 4, loads(1, 1, 0, 0), reserved_count=2) is None
    assert after(scaler.decide(200.0, 4, loads(1, 1, 0, 0), reserved_count=1)) == 3


def test_a_strained_host_gets_no_more_workers() -> None:
    assert Scaler(RULE).decide(0.0, 2, loads(1, 1), [wait(5)], is_strained=True) is None


def test_a_worker_that_was_idle_for_long_goes_and_then_the_next() -> None:
    scaler = Scaler(RULE)
    assert scaler.decide(0.0, 4, loads(1, 0, 0, 0)) is None
    assert scaler.decide(59.0, 4, loads(1, 0, 0, 0)) is None
    gone = scaler.decide(60.0, 4, loads(1, 0, 0, 0))
    assert gone is not None
    assert (gone.after, gone.leaving, gone.queue) == (3, ("w4",), None)
    assert gone.why == "worker w4 had nothing to do for 60 s"
    gone = scaler.decide(60.5, 3, loads(1, 0, 0))
    assert gone is not None
    assert gone.leaving == ("w3",)
    assert scaler.decide(61.0, 2, loads(1, 0)) is None


def test_who_has_been_idle_longest_goes() -> None:
    scaler = Scaler(RULE)
    scaler.decide(0.0, 3, loads(0, 1, 1))
    scaler.decide(30.0, 3, loads(0, 0, 0))
    gone = scaler.decide(70.0, 3, loads(0, 0, 0))
    assert gone is not None
    assert gone.leaving == ("w1",)


def test_a_worker_in_which_an_attempt_waits_for_others_is_not_idle() -> None:
    scaler = Scaler(RULE)
    workers = [*loads(1, 0), WorkerLoad("w3", 0, 0, 1)]
    assert scaler.decide(0.0, 3, workers) is None
    gone = scaler.decide(100.0, 3, workers)
    assert gone is not None
    assert gone.leaving == ("w2",)


def test_work_between_two_looks_counts() -> None:
    scaler = Scaler(RULE)
    for second in range(200):
        # Each was busy for a moment that no look fell into.
        assert scaler.decide(float(second), 3, loads(0, 0, 0, finished=second)) is None


steps = st.lists(
    st.tuples(
        st.floats(0.1, 100.0),
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=12),
        st.lists(st.tuples(st.integers(0, 50), st.floats(0.0, 100.0)), max_size=3),
        st.booleans(),
    ),
    max_size=30,
)


@given(steps=steps, least=st.integers(1, 5), more=st.integers(0, 6), concurrency=st.integers(1, 3))
def test_the_bounds_hold_and_nobody_who_works_goes(
    steps: list[tuple[float, list[tuple[int, int]], list[tuple[int, float]], bool]],
    least: int,
    more: int,
    concurrency: int,
) -> None:
    rule = ScalingRule(workers_min=least, workers_max=least + more, concurrency=concurrency)
    scaler, count, now_s, looked_s = Scaler(rule), least, 0.0, -1e9
    idle_since: dict[str, tuple[int, float]] = {}
    finished: dict[str, int] = {}
    for passed_s, held, waits, is_strained in steps:
        now_s += passed_s
        workers = []
        for n, (each, done) in enumerate(held[:count]):
            finished[f"w{n}"] = finished.get(f"w{n}", 0) + done
            workers.append(WorkerLoad(f"w{n}", min(each, concurrency), finished[f"w{n}"]))
        idle_since = {
            w.worker_id: (w.finished_count, since)
            for w in workers
            if w.held_count == 0
            for before, since in [idle_since.get(w.worker_id, (-1, now_s))]
            for since in [since if before == w.finished_count else now_s]
        }
        found = []
        if scaler.wants_look(now_s, count, workers):
            assert now_s - looked_s >= rule.look_s
            assert all(w.held_count == concurrency for w in workers)
            looked_s = now_s
            found = [Waiting(f"q{n}", *each) for n, each in enumerate(waits)]
        change = scaler.decide(now_s, count, workers, found, is_strained=is_strained)
        if change is None:
            continue
        assert change.before == count
        assert least <= change.after <= least + more
        if change.after > count:
            assert not is_strained
            assert change.waiting_count == sum(each for each, _ in waits)
            assert change.oldest_wait_s > rule.wait_s
            assert (change.after - count - 1) * concurrency < change.waiting_count
        else:
            assert change.after == count - 1
            [gone] = change.leaving
            assert now_s - idle_since[gone][1] >= rule.idle_s
        count = change.after
