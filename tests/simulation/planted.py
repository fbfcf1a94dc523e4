"""Bugs, each planted into the real code for a while: the simulator must find every one of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any, NamedTuple

import msgspec
from pytest import MonkeyPatch  # noqa: PT013 - its one use outside of a test

from fleetlog.bus import client
from fleetlog.bus import log as bus_log
from fleetlog.bus.core import owed
from fleetlog.bus.core.admission import Admission
from fleetlog.bus.core.budgets import BudgetState
from fleetlog.bus.errors import ConflictError
from fleetlog.bus.jetstream import appender
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.schemas.subjects import guard_of

# The package has functions of these names.
decide: Any = import_module("fleetlog.bus.core.decide")
evolve: Any = import_module("fleetlog.bus.core.evolve")


class Bug(NamedTuple):
    """One of them."""

    name: str
    """What is wrong, for people."""
    rules: tuple[str, ...]
    """One of these must be seen to be broken."""
    seed: int
    """A seed that is known to find it; tried first."""
    plant: Callable[[MonkeyPatch], None]
    """Makes it."""


def _any_fence(patch: MonkeyPatch) -> None:
    right = decide._end

    def end(command: Any, task: Any, now: Any) -> Any:
        if task.lease is None:
            return right(command, task, now)
        event = right(msgspec.structs.replace(command, fence=task.lease.fence), task, now)
        return msgspec.structs.replace(event, fence=command.fence)

    patch.setattr(decide, "_end", end)


def _no_evidence(patch: MonkeyPatch) -> None:
    def on_ack(self: Any, pending: Any, ack: Any) -> None:
        if ack.error is None:
            appender._settle(pending, ack.seq)
        else:
            appender._fail(pending, ConflictError("someone was first, perhaps we ourselves"))

    patch.setattr(appender.Appender, "_on_ack", on_ack)


def _one_place_more(patch: MonkeyPatch) -> None:
    right = Admission._room_under
    patch.setattr(Admission, "_room_under", lambda *given: right(*given) + 1)


def _released_early(patch: MonkeyPatch) -> None:
    right = owed.verdict

    def verdict(plan: Any, tally: Any, *, is_over: bool = False) -> Any:
        counted = msgspec.structs.replace(tally, expected=max(tally.settled, tally.expected - 1))
        return right(plan, counted, is_over=is_over)

    patch.setattr(owed, "verdict", verdict)


def _no_backoff(patch: MonkeyPatch) -> None:
    right = evolve._waiting

    def waiting(*given: Any) -> Any:
        task = right(*given)
        return task if task.question else msgspec.structs.replace(task, due_at=task.since)

    patch.setattr(evolve, "_waiting", waiting)


def _no_delay(patch: MonkeyPatch) -> None:
    right = evolve._held

    def held(*given: Any) -> Any:
        task = right(*given)
        return msgspec.structs.replace(task, due_at=task.since)

    patch.setattr(evolve, "_held", held)


def _deaf_to_cancels(patch: MonkeyPatch) -> None:
    right = decide._end

    def end(command: Any, task: Any, now: Any) -> Any:
        return right(command, msgspec.structs.replace(task, is_cancel_requested=False), now)

    patch.setattr(decide, "_end", end)


def _bottomless(patch: MonkeyPatch) -> None:
    patch.setattr(BudgetState, "is_holding", property(lambda _: False))


def _two_guards(patch: MonkeyPatch) -> None:
    def guard(subject: Any) -> str:
        right = guard_of(subject)
        # A claim is guarded in another way than what rivals with it.
        is_odd = subject.kind == "task" and subject.verb in ("claimed", "completed")
        return right.replace(".>", ".*.*.*") if is_odd else right

    patch.setattr(bus_log, "guard_of", guard)


def _wall_clock(patch: MonkeyPatch) -> None:
    def now(self: Connection) -> Any:
        return self._clock.now() + (self._time.server - self._time.wall)

    patch.setattr(Connection, "now", now)


def _impatient(patch: MonkeyPatch) -> None:
    right = decide._is_past

    def is_past(start: Any, limit_ms: Any, now: Any) -> Any:
        return right(start, limit_ms, now + timedelta(seconds=1))

    patch.setattr(decide, "_is_past", is_past)


def _forgets_admissions(patch: MonkeyPatch) -> None:
    patch.setattr(Admission, "put_back", lambda _self, _act: None)


def _key_of_its_own(patch: MonkeyPatch) -> None:
    made: list[str] = []

    def key_id(key: str) -> str:
        made.append(key)
        return f"{client.derived_id('k', len(made))}"

    patch.setattr(client, "key_id", key_id)


BUGS = (
    Bug("an attempt ends with any fence", ("claim.fence",), 25, _any_fence),
    Bug("a conflict is believed without evidence", ("log.event_id", "end"), 5, _no_evidence),
    Bug("a limit lets one more in", ("limit.places", "limit.rate"), 0, _one_place_more),
    Bug("a barrier misses one member", ("barrier.policy",), 0, _released_early),
    Bug("a retry does not wait", ("wait.retry",), 0, _no_backoff),
    Bug("a delay is not waited for", ("wait.delay",), 0, _no_delay),
    Bug("an end forgets that it was asked for", ("cancel.heeded",), 0, _deaf_to_cancels),
    Bug("a budget never holds anything back", ("budget",), 7, _bottomless),
    Bug("rivals write the guard in two ways", ("claim", "task"), 1, _two_guards),
    Bug("the log's time follows the wall clock", ("wait", "schedule"), 0, _wall_clock),
    Bug("time runs out a second early", ("wait.expiry",), 0, _impatient),
    Bug("an admission that failed is forgotten", ("end", "limit"), 0, _forgets_admissions),
    Bug("a key makes another id each time", ("task.key",), 0, _key_of_its_own),
)
