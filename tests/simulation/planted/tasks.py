"""Bugs in what may happen to a task, and what its events say of it."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

from fleetlog.bus import client
from simulation.planted.bug import Bug, typed

_DECIDE = "fleetlog.bus.core.decide"
_OFFERING = "fleetlog.bus.core.offering"
_EVOLVE = "fleetlog.bus.core.evolve"


def _key_of_its_own(patch: MonkeyPatch) -> None:
    made: list[str] = []

    def key_id(key: str) -> Any:
        made.append(key)
        return client.derived_id("k", len(made))

    patch.setattr(client, "key_id", key_id)


BUGS = (
    Bug(
        "what has ended is cancelled once more",
        {"task.one_ending": 13},
        typed(
            f"{_DECIDE}:_request_cancel", ("if task.is_settled:", 'if task.status == "cancelled":')
        ),
    ),
    Bug(
        "what has ended is replaced",
        {"task.after_ending": 13},
        typed(
            f"{_OFFERING}:_is_replaceable",
            (
                'if task.status not in ("held", "queued") or task.attempts or task.spec is None:',
                'if task.status == "claimed" or task.spec is None:',
            ),
        ),
    ),
    Bug(
        "what waits for its next attempt is replaced",
        {"task.spec": 8},
        typed(
            f"{_OFFERING}:_is_replaceable",
            ('("held", "queued") or task.attempts or', '("held", "queued", "waiting") or'),
        ),
    ),
    Bug(
        "an offer to one host stands on everybody's queue",
        {"task.lane": 0, "claim.host": 1},
        typed(
            "fleetlog.bus.rules:subject_of",
            ("spec = event.spec.on_host(event.host)", "spec = event.spec"),
        ),
    ),
    Bug("a key makes another id each time", {"task.key": 0}, _key_of_its_own),
    Bug(
        "whatever has ended can be revived",
        {"task.revival": 13},
        typed(
            "fleetlog.bus.reviving:revive",
            ('if named.task.status != "failed":', "if not named.task.is_settled:"),
        ),
    ),
    Bug(
        "an offer forgets whether the last attempt counted",
        {"count.offer": 0},
        typed(
            f"{_EVOLVE}:_waiting",
            (
                "failures=task.failures + isinstance(event, TaskRetried)",
                "failures=task.failures + 1",
            ),
        ),
    ),
    Bug(
        "the offer of an attempt counts it already",
        {"count.attempts": 0},
        typed(
            f"{_EVOLVE}:_queued",
            ("attempts=event.attempt - 1 if is_first", "attempts=event.attempt if is_first"),
        ),
    ),
    Bug(
        "one attempt too many",
        {"bound.attempts": 0},
        typed(
            f"{_DECIDE}:_fail", ("failures >= spec.max_attempts", "failures > spec.max_attempts")
        ),
    ),
    Bug(
        "an end forgets that it was asked for",
        {"cancel.heeded": 0},
        typed(
            f"{_DECIDE}:_end",
            (
                "case Fail() | Return() if task.is_cancel_requested:",
                "case Fail() | Return() if task.is_cancel_requested and task.failures:",
            ),
        ),
    ),
    Bug(
        "an answer takes the place of those before",
        {"question.answered": 0},
        typed(f"{_OFFERING}:answer", ("answers = (*task.answers, answer)", "answers = (answer,)")),
    ),
    Bug(
        "what waits for others is offered at once",
        {"gate.held": 0, "barrier.continuation": 0},
        typed(f"{_OFFERING}:_first", ("spec.waits_for_tasks or ", "")),
    ),
    Bug(
        "a task goes on after one that failed",
        {"gate.after": 0},
        typed("fleetlog.bus.core.joins:Joins._open_gate", ('policy="all"', 'policy="settled"')),
    ),
)
