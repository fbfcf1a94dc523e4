"""Queues: the last word says whether one is paused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleetlog.bus.core.queues import QueueState, evolve_queue
from fleetlog.schemas.envelope import Recorded, UnknownEvent
from fleetlog.schemas.events import Event, QueueDerived, QueuePaused, QueueResumed, QueueScaled

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seq: int) -> datetime:
    return T0 + timedelta(seconds=seq)


def fold(*events: Event | UnknownEvent) -> QueueState:
    state = QueueState(queue="gpu")
    for seq, event in enumerate(events, 1):
        state = evolve_queue(state, Recorded(seq, at(seq), None, event))
    return state


def paused(reason: str) -> QueuePaused:
    return QueuePaused(id=reason, occurred_at=T0, actor="ann", reason=reason)


RESUMED = QueueResumed(id="r", occurred_at=T0, actor="bob")


def test_a_queue_is_not_paused_until_someone_says_so() -> None:
    assert not fold().is_paused


def test_the_last_pause_counts_with_its_actor_and_reason() -> None:
    state = fold(paused("one"), RESUMED, paused("two"))
    assert (state.is_paused, state.actor, state.reason) == (True, "ann", "two")
    assert (state.paused_at, state.resumed_at, state.seq) == (at(3), at(2), 3)


def test_a_resumed_queue_remembers_its_pause() -> None:
    state = fold(paused("one"), RESUMED)
    assert (state.is_paused, state.actor, state.reason) == (False, "bob", None)
    assert (state.paused_at, state.resumed_at) == (at(1), at(2))


def test_what_is_not_understood_moves_the_version_alone() -> None:
    state = fold(paused("one"), UnknownEvent(type="queue.painted", why="new"))
    assert (state.is_paused, state.version, state.seq) == (True, 2, 1)


def test_more_workers_are_no_word_about_a_pause() -> None:
    scaled = QueueScaled(
        id="s", occurred_at=T0, agent_id="a", host="h", workers_before=1, workers_after=2
    )
    state = fold(paused("one"), scaled)
    assert (state.is_paused, state.version, state.seq, state.reason) == (True, 2, 1, "one")


def test_an_event_that_was_seen_changes_nothing() -> None:
    state = fold(paused("one"), RESUMED)
    assert evolve_queue(state, Recorded(1, at(1), None, paused("one"))) is state


def derived(**requires: str) -> QueueDerived:
    return QueueDerived(id="d", occurred_at=T0, queue="ml", requires=requires)


def test_a_derived_queue_knows_its_base_and_is_paused_by_itself_too() -> None:
    state = fold(derived(gpu="yes"), paused("one"))
    assert (state.base, state.requires, state.is_paused) == ("ml", {"gpu": "yes"}, True)
    assert fold(paused("one"), derived(gpu="yes")).is_paused


def test_the_first_word_about_what_a_queue_stands_for_counts() -> None:
    state = fold(derived(gpu="yes"), derived(gpu="no"))
    assert (state.requires, state.version, state.seq) == ({"gpu": "yes"}, 2, 0)
