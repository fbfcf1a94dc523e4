"""Logs about the log itself."""

from __future__ import annotations

from simulation.cases.case import Case, bad
from simulation.writing import Log


def one_task(log: Log) -> None:
    log.ran("t")


def a_gap(log: Log) -> None:
    log.started()
    log.raw(log.messages[0].subject.replace(".a.", ".b."), _another(log), seq=5)


def the_same_again(log: Log) -> None:
    log.started()
    log.raw(log.messages[0].subject.replace(".a.", ".b."), _another(log), seq=1)


def _another(log: Log) -> bytes:
    return log.messages[0].data.replace(b'"e1"', b'"e2"')


def hashed_keys(log: Log) -> None:
    # What is no token is hashed: `k` and the first 32 hex digits of its SHA-256.
    log.add("limit.kb7b15a392649eaf59c97b8faa3407082", "set", key="user:ann")
    log.limit("a")


def not_json(log: Log) -> None:
    log.raw("fleetlog.f.agent.a.stopped", b"{")


def not_an_event(log: Log) -> None:
    log.raw("fleetlog.f.agent.a.stopped", b"[1]")


def another_type(log: Log) -> None:
    log.add("agent.a", "started", type="agent.stopped")


def no_such_verb(log: Log) -> None:
    log.add("task.t.default.normal", "done", type="task.done")


def no_such_priority(log: Log) -> None:
    log.add("task.t.default.middle", "queued", type="task.queued")


def no_such_kind(log: Log) -> None:
    log.add("job.t", "queued")


def no_such_subject(log: Log) -> None:
    log.raw("fleetlog.f.agent", b"{}")


def another_version(log: Log) -> None:
    log.started(v=2)


def without_id(log: Log) -> None:
    log.started(id=None)


def another_fleet(log: Log) -> None:
    log.started("a")
    log.raw("fleetlog.g.agent.b.started", log.messages[0].data.replace(b'"e1"', b'"e2"'))


def another_key(log: Log) -> None:
    log.add("limit.a", "set", key="b")


def id_twice(log: Log) -> None:
    log.started("a", id="x")
    log.started("b", id="x")


CASES = [
    Case("log.sequence", (one_task,), (a_gap, the_same_again)),
    Case(
        "log.readable",
        (one_task, hashed_keys),
        (
            *(not_json, not_an_event, another_type, no_such_verb, no_such_priority, no_such_kind),
            *(no_such_subject, another_version, without_id, another_fleet, another_key),
        ),
    ),
    Case("log.event_id", (one_task,), (bad(id_twice),)),
]
