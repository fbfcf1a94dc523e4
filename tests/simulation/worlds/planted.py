"""Bugs to plant: each is one that someone could well make, and a small world that shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fleetlog.bus import unsettled
from fleetlog.bus.core import Claim, Task
from fleetlog.bus.core.joins import Joins
from fleetlog.bus.jetstream.appender import Appender
from fleetlog.bus.jetstream.last_known import id_of
from fleetlog.bus.log import Append, entry
from simulation.worlds import agents, writers
from simulation.worlds.agents import Actors
from simulation.worlds.beginning import Plan
from simulation.worlds.cell import NONE, Attempt, Cell, Move, acknowledged
from simulation.worlds.histories import History
from simulation.worlds.server import Server

Plant = Callable[[pytest.MonkeyPatch], None]

_rules: Any = sys.modules["fleetlog.bus.core.decide"]
"""The module; the package has the function under its name."""


class Bug(msgspec.Struct, frozen=True):
    """A planted bug."""

    plant: Plant
    plan: Plan
    """Of a world that shows it."""
    wrong: str
    """Part of what is told to be wrong."""


def write_guards_differently(patch: pytest.MonkeyPatch) -> None:
    def append_of(subject: Any, expected: int, event: Any) -> Append:
        made = entry(subject, expected, event)
        if subject.verb != "completed":
            return made
        return msgspec.structs.replace(made, guard=f"fleetlog.main.task.{subject.id}.*.*.*")

    patch.setattr(agents, "append_of", append_of)


def batch_what_speaks_of_one_task(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Appender, "_take_group", lambda appender: list(appender._queue))


def take_redelivery_for_death(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agents, "holder_is_dead", lambda holder, agent: NONE)


def read_no_evidence(patch: pytest.MonkeyPatch) -> None:
    def evidence(history: History, entry: Append) -> writers.Evidence:
        return "none" if history.after(entry.expected) is None else "theirs"

    patch.setattr(writers, "evidence", evidence)


def read_the_last_event_as_evidence(patch: pytest.MonkeyPatch) -> None:
    def evidence(history: History, entry: Append) -> writers.Evidence:
        if history.stored is None or history.seq <= entry.expected:
            return "none"
        return "ours" if id_of(history.stored.data) == entry.event_id else "theirs"

    patch.setattr(writers, "evidence", evidence)


def end_without_the_fence(patch: pytest.MonkeyPatch) -> None:
    right = _rules._end

    def end(command: Any, task: Task, now: Any) -> Any:
        if task.lease is not None:
            command = msgspec.structs.replace(command, fence=task.lease.fence)
        return right(command, task, now)

    patch.setattr(_rules, "_end", end)


def claim_without_the_offer(patch: pytest.MonkeyPatch) -> None:
    right = _rules._claim

    def claim(command: Claim, task: Task, now: Any) -> Any:
        if task.status == "queued":
            return _rules._claimed(command, task, now)
        return right(command, task, now)

    patch.setattr(_rules, "_claim", claim)


def claim_over_whoever_holds_it(patch: pytest.MonkeyPatch) -> None:
    right = _rules._claim

    def claim(command: Claim, task: Task, now: Any) -> Any:
        if command.over is not None and task.lease is not None:
            command = msgspec.structs.replace(command, over=task.lease.fence)
        return right(command, task, now)

    patch.setattr(_rules, "_claim", claim)


def count_instead_of_naming(patch: pytest.MonkeyPatch) -> None:
    right = Joins._settle_slots

    def settle(joins: Joins, waited_for: str, seq: int, **how: Any) -> None:
        for join in joins.joins.values():
            if waited_for not in join.open:
                join.settled += 1
                joins._touch(join)
        right(joins, waited_for, seq, **how)

    patch.setattr(Joins, "_settle_slots", settle)


def queue_without_a_guard(patch: pytest.MonkeyPatch) -> None:
    check, is_doomed = Server.check_coordinator, Server.is_doomed

    def blind(server: Server, entry: Append, history: History, flying: Any = ()) -> Any:
        return "taken" if _opens(entry) else check(server, entry, history, flying)

    def never(server: Server, entry: Append, history: History) -> bool:
        return not _opens(entry) and is_doomed(server, entry, history)

    patch.setattr(Server, "check_coordinator", blind)
    patch.setattr(Server, "is_doomed", never)


def _opens(entry: Append) -> bool:
    return entry.subject.endswith(".queued")


def acknowledge_before_it_is_stored(patch: pytest.MonkeyPatch) -> None:
    right = Actors._end

    def end(actors: Actors, rest: Cell, attempt: Attempt, command_id: str, task: Task) -> Move:
        move = right(actors, rest, attempt, command_id, task)
        return move._replace(cell=acknowledged(move.cell, attempt.offer))

    patch.setattr(Actors, "_end", end)


def forget_own_attempts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(agents, "is_adopted", lambda cell, agent, offer: False)


def forget_what_is_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(unsettled, "due", lambda task, now: None)


BUGS = {
    "two guards, written differently, speak of one task": Bug(
        write_guards_differently,
        Plan(coordinators=0, cancels=1, is_replicated=True),
        "although it is completed",
    ),
    "a batch holds two appends of one task": Bug(
        batch_what_speaks_of_one_task,
        Plan(tasks=2, barriers=1, crashes=1, abandons=1, is_batching=True),
        "",
    ),
    "a redelivery is taken for the death of the holder": Bug(
        take_redelivery_for_death,
        Plan(coordinators=0, duplicates=1),
        "a1 lives, and is to lose its lease",
    ),
    "no evidence is read after a conflict": Bug(
        read_no_evidence, Plan(coordinators=0, losses=1), "its event is in the log"
    ),
    "the last event is the evidence, not the first after the expected one": Bug(
        read_the_last_event_as_evidence,
        Plan(coordinators=0, losses=1, cancels=1),
        "its event is in the log",
    ),
    "the fence is not checked at the end": Bug(
        end_without_the_fence, Plan(coordinators=0, pauses=1), "ended the attempt of"
    ),
    "the offer is not checked at the claim": Bug(
        claim_without_the_offer,
        Plan(crashes=1, returns=1, endings=("complete", "return")),
        "that offer was not there to be taken",
    ),
    "evidence against one holder is used against the next": Bug(
        claim_over_whoever_holds_it,
        Plan(agents=3, coordinators=0, crashes=1, duplicates=1),
        "a2 lives, and is to lose its lease",
    ),
    "a barrier counts ends instead of members": Bug(
        count_instead_of_naming,
        Plan(tasks=3, others=1, barriers=1),
        "only 0 of 1 have settled",
    ),
    "a coordinator queues without a guard": Bug(
        queue_without_a_guard, Plan(tasks=2, barriers=1, coordinators=2), "offered"
    ),
    "an offer is acknowledged before the end is stored": Bug(
        acknowledge_before_it_is_stored,
        Plan(coordinators=0, crashes=1),
        "not everything can settle",
    ),
    "an agent does not know its own attempt when the offer comes again": Bug(
        forget_own_attempts, Plan(coordinators=0, duplicates=1), "it claims over its own attempt"
    ),
    "a coordinator forgets what is due": Bug(
        forget_what_is_due,
        Plan(endings=("fail",), max_attempts=2),
        "not everything can settle",
    ),
}
"""By what is wrong with it."""
