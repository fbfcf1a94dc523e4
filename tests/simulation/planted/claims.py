"""Bugs in who may claim what, and what an agent does with it."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

from fleetlog.bus import log as bus_log
from fleetlog.bus.errors import ConflictError
from fleetlog.bus.jetstream import appender
from fleetlog.schemas.subjects import guard_of
from simulation.planted.bug import Bug, typed

_DECIDE = "fleetlog.bus.core.decide"
_ATTEMPTS = "fleetlog.agents.attempts"


def _no_evidence(patch: MonkeyPatch) -> None:
    def on_ack(self: Any, pending: Any, ack: Any) -> None:
        if ack.error is None:
            self._settle(pending, ack.seq)
        else:
            appender._fail(pending, ConflictError("someone was first, perhaps we ourselves"))

    patch.setattr(appender.Appender, "_on_ack", on_ack)


def _two_guards(patch: MonkeyPatch) -> None:
    def guard(subject: Any) -> str:
        right = guard_of(subject)
        # A claim is guarded in another way than what rivals with it.
        is_odd = subject.kind == "task" and subject.verb in ("claimed", "completed")
        return right.replace(".>", ".*.*.*") if is_odd else right

    patch.setattr(bus_log, "guard_of", guard)


BUGS = (
    Bug("a conflict is believed without evidence", {"log.event_id": 2}, _no_evidence),
    Bug(
        "rivals write the guard in two ways",
        {"claim.live": 4, "claim.offer": 7, "task.transition": 4, "claim.fence": 4},
        _two_guards,
    ),
    Bug(
        "an old offer is as good as the last one",
        {"claim.offer": 1},
        typed(
            f"{_DECIDE}:_claim",
            (
                'if task.status == "queued" and command.offer == task.offer:',
                'if task.status == "queued":',
            ),
        ),
    ),
    Bug(
        "labels are not looked at",
        {"claim.agent": 0},
        typed(
            "fleetlog.bus.queues:Queues.derived_for",
            ("and satisfies(labels, state.requires)", ""),
        ),
    ),
    Bug(
        "a refused result names the offer, not the claim",
        {"claim.refused": 48},
        typed(
            f"{_ATTEMPTS}:Attempts._on_refused",
            (
                "task.lease.attempt, task.lease.fence, event",
                "task.lease.attempt, task.lease.offer, event",
            ),
        ),
    ),
    Bug(
        "an agent that was held for lost keeps its id",
        {"agent.life": 25},
        typed(
            "fleetlog.agents.supervisor:Supervisor._begin",
            ("self.agent_id = ", 'self.agent_id = getattr(self, "agent_id", None) or '),
        ),
    ),
    Bug(
        "an agent that runs hears of no pause",
        {"queue.paused": 4},
        typed(
            "fleetlog.agents.derived_lanes:DerivedLanes._note",
            ("self._feeder.pause(self._queues.paused)", ""),
        ),
    ),
    Bug(
        "a derived queue is derived of itself",
        {"queue.derived": 0, "limit.leaked": 0, "end.settled": 0},
        typed("fleetlog.bus.derived:DerivedQueues._ensure", ("queue=spec.queue", "queue=name")),
    ),
)
