"""A task remembers the last session of an agent CLI, so that a further attempt may go on with it."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from fleetlog.bus.core import Queue, decide
from fleetlog.schemas.events import TaskQueued
from tests.given import at, claimed, fold, queued, retried, returned


def test_the_last_session_stays_known_through_attempts_without_one() -> None:
    first = msgspec.structs.replace(retried(2), session_id="s1")
    task = fold(queued(), claimed(), first, queued(), claimed(4, 2), returned(5, 2))
    assert task.session_id == "s1"
    second = msgspec.structs.replace(returned(5, 2), session_id="s2")
    assert fold(queued(), claimed(), first, queued(), claimed(4, 2), second).session_id == "s2"


def test_an_offer_names_it_and_a_fold_may_begin_with_the_offer() -> None:
    waiting = fold(queued(), claimed(), msgspec.structs.replace(retried(2), session_id="s1"))
    offer = decide(Queue(id="q"), waiting, at(0) + timedelta(days=1))
    assert isinstance(offer, TaskQueued)
    assert offer.session_id == "s1"
    assert fold(offer, claimed()).session_id == "s1"
