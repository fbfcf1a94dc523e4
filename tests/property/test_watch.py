"""Who is lost, and who acts: under random beats, gaps, reconnects and pauses."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fleetlog.bus.core.office import SILENT_MAX_S, Office
from fleetlog.bus.core.watch import GAP_S, GRACE_S, SILENCE_S, Watch

AGENTS = ("a1", "a2", "a3")


class Moment(msgspec.Struct, frozen=True):
    passes_s: float
    heard: str | None
    """An agent, `self` or `reconnect`; None: nothing."""


MOMENTS = st.lists(
    st.builds(
        Moment,
        passes_s=st.one_of(st.floats(0, 1.2), st.floats(0, 10)),
        heard=st.sampled_from([None, "self", "self", "self", "reconnect", *AGENTS]),
    ),
    max_size=60,
)


@given(MOMENTS)
def test_nobody_is_lost_without_three_silent_seconds_in_which_the_watcher_heard_itself(
    moments: list[Moment],
) -> None:
    watch = Watch()
    at = 100.0
    for agent_id in AGENTS:
        watch.enroll(agent_id, at)
    heard = dict.fromkeys(AGENTS, at)
    echoes: list[float] = []  # since the last gap or reconnect
    for moment in moments:
        at += moment.passes_s
        if moment.heard == "self":
            if echoes and at - echoes[-1] > GAP_S:
                echoes.clear()
            echoes.append(at)
            watch.hear_self(at)
        elif moment.heard == "reconnect":
            echoes.clear()
            watch.pardon()
        elif moment.heard is not None:
            heard[moment.heard] = at
            watch.hear(moment.heard, at)
        lost = {silence.agent_id: silence.silent_s for silence in watch.lost(at)}
        for agent_id, silent_s in lost.items():
            assert at - echoes[-1] <= GAP_S
            assert echoes[-1] - heard[agent_id] > SILENCE_S
            assert echoes[-1] - echoes[0] > GRACE_S
            assert SILENCE_S < silent_s <= at - heard[agent_id]
        if echoes and at - echoes[-1] <= GAP_S and echoes[-1] - echoes[0] > GRACE_S:
            silent = {a for a in AGENTS if echoes[-1] - heard[a] > SILENCE_S}
            assert set(lost) == silent


@given(st.lists(st.floats(0.0, GAP_S), min_size=1, max_size=40))
def test_an_agent_that_went_silent_is_lost_at_the_first_own_beat_behind_three_missed_ones(
    gaps: list[float],
) -> None:
    watch = Watch()
    at = 0.0
    watch.enroll("a1", at)
    watch.hear_self(at)
    while at <= GRACE_S:
        at += 1.0
        watch.hear("a1", at)
        watch.hear_self(at)
    last = at
    for gap in gaps:
        at += gap
        watch.hear_self(at)
        assert bool(watch.lost(at)) == (at - last > SILENCE_S)


def test_an_agent_that_is_dismissed_or_was_never_enrolled_is_not_lost() -> None:
    watch = Watch()
    watch.enroll("a1", 0.0)
    watch.dismiss("a1")
    watch.hear("a2", 0.0)
    for at in range(20):
        watch.hear_self(float(at))
        assert watch.lost(float(at)) == []


class Turn(msgspec.Struct, frozen=True):
    passes_s: float
    who: int
    is_hearing: bool
    """Its beat reaches the others; else the network keeps it."""


@given(
    st.lists(
        st.builds(
            Turn,
            passes_s=st.floats(0, 2),
            who=st.integers(0, 2),
            is_hearing=st.booleans(),
        ),
        max_size=60,
    )
)
def test_of_several_coordinators_one_is_left_active_once_they_hear_each_other(
    turns: list[Turn],
) -> None:
    ids = ("c1", "c2", "c3")
    at = 0.0
    offices = [Office(name, at) for name in ids]

    def beat(who: int) -> None:
        if offices[who].look(at):
            for office in offices:
                office.hear(ids[who], offices[who].term, at, is_active=True)

    for turn in turns:
        at += turn.passes_s
        if turn.is_hearing:
            beat(turn.who)
        else:
            offices[turn.who].look(at)
    for _ in range(30):
        at += 0.5
        for who in range(3):
            beat(who)
    assert sum(office.is_ours for office in offices) == 1
    assert len({office.holder for office in offices}) == 1


def test_a_standby_takes_over_when_it_was_silent_for_long_and_not_before() -> None:
    active, standby = Office("c1", 0.0), Office("c2", 0.0)
    assert active.look(0.0)
    standby.hear("c1", active.term, 0.0, is_active=True)
    taken_at = None
    for tick in range(1, 20):
        if standby.look(tick / 2) and taken_at is None:
            taken_at = tick / 2
    assert taken_at == SILENT_MAX_S
    active.hear("c2", standby.term, 10.0, is_active=True)
    assert not active.look(10.0)


def test_an_office_that_is_given_up_is_taken_at_once_but_not_if_another_one_has_it() -> None:
    standby = Office("c2", 0.0)
    standby.hear("c1", 4, 0.0, is_active=True)
    standby.hear("c0", 3, 0.1, is_active=False)
    assert not standby.look(0.2)
    standby.hear("c1", 4, 0.3, is_active=False)
    assert standby.look(0.4)
    assert standby.term == 5
    standby.hear("c2", 9, 0.5, is_active=False)
    assert standby.is_ours


def test_a_standby_that_was_paused_listens_for_as_long_before_it_takes_over() -> None:
    standby = Office("c2", 0.0)
    standby.hear("c1", 1, 0.0, is_active=True)
    assert not standby.look(0.5)
    assert not standby.look(60.0)
    assert not standby.look(61.0)
    standby.hear("c1", 1, 61.5, is_active=True)
    assert not standby.look(62.0)
    assert standby.holder == "c1"
