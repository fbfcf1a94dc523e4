"""The subject grammar."""

from __future__ import annotations

import pytest

from fleetlog.schemas import subjects
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import EVENT_TYPES
from fleetlog.schemas.subjects import (
    PRIORITIES,
    VERBS,
    Subject,
    format_subject,
    guard,
    guard_of,
    parse_subject,
)


def _every_subject() -> list[Subject]:
    made: list[Subject] = []
    for kind, verbs in VERBS.items():
        for verb in sorted(verbs):
            if kind == "task":
                made += [
                    Subject("f1", kind, "t1", verb, queue=queue, priority=priority)
                    for priority in PRIORITIES
                    for queue in ("default", "host-h1")
                ]
            elif kind == "worker":
                made.append(Subject("f1", kind, "a1", verb, worker_id="w1"))
            else:
                made.append(Subject("f1", kind, "x1", verb))
    return made


@pytest.mark.parametrize("subject", _every_subject(), ids=format_subject)
def test_every_subject_reads_back_as_it_was(subject: Subject) -> None:
    assert parse_subject(format_subject(subject)) == subject


def test_the_texts_are_those_of_the_design() -> None:
    task = Subject("f1", "task", "t1", "queued", queue="q1", priority="high")
    worker = Subject("f1", "worker", "a1", "refused", worker_id="w1")
    assert format_subject(task) == "fleetlog.f1.task.t1.q1.high.queued"
    assert format_subject(worker) == "fleetlog.f1.worker.a1.w1.refused"
    assert format_subject(Subject("f1", "agent", "a1", "lost")) == "fleetlog.f1.agent.a1.lost"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "fleetlog",
        "fleetlog.f1",
        "fleetlog.f1.task.t1.queued",
        "fleetlog.f1.task.t1.q1.high",
        "fleetlog.f1.task.t1.q1.urgent.queued",
        "fleetlog.f1.task.t1.q1.high.opened",
        "fleetlog.f1.task.t1.q1.high.queued.more",
        "fleetlog.f1.task.*.q1.high.queued",
        "fleetlog.f1.task.>",
        "fleetlog.f1.task..q1.high.queued",
        "fleetlog..task.t1.q1.high.queued",
        "fleetlog.f1.task.t1..high.queued",
        "fleetlog.f1.task.t 1.q1.high.queued",
        "fleetlog.f1.task.t1.q1.high.queued\n",
        "fleetlog.f1.task." + "t" * 129 + ".q1.high.queued",
        "fleetlog.f1.worker.a1.spawned",
        "fleetlog.f1.worker.a1.w1.started",
        "fleetlog.f1.worker.a1..spawned",
        "fleetlog.f1.agent.a1.spawned",
        "fleetlog.f1.agent.a1.w1.started",
        "fleetlog.f1.barrier.b1.",
        "fleetlog.f1.dream.d1.set",
        "other.f1.agent.a1.started",
        "fleetlog-live.f1.t1",
        "Fleetlog.f1.agent.a1.started",
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a subject of the log"):
        parse_subject(text)


@pytest.mark.parametrize("kind", VERBS)
def test_all_events_of_one_thing_carry_the_same_guard(kind: str) -> None:
    of_kind = [subject for subject in _every_subject() if subject.kind == kind]
    guards = {guard_of(subject) for subject in of_kind}
    assert len(guards) == 1
    (text,) = guards
    assert text == guard("f1", kind, of_kind[0].id, of_kind[0].worker_id)
    assert all(format_subject(subject).startswith(text.removesuffix(">")) for subject in of_kind)


def test_guards_of_different_things_differ() -> None:
    things = [
        *(guard("f1", kind, "x") for kind in VERBS if kind != "worker"),
        *(guard("f1", "worker", "x", worker) for worker in ("w1", "w2")),
        *(guard("f1", "task", "x1"), guard("f2", "task", "x")),
    ]
    assert len(set(things)) == len(things)
    assert all("*" not in thing for thing in things)


def test_every_event_type_has_its_subject() -> None:
    for name in EVENT_TYPES:
        kind, _, verb = name.partition(".")
        assert verb in VERBS[kind]


def test_filters_and_subjects_beside_the_log() -> None:
    assert subjects.everything("f1") == "fleetlog.f1.>"
    assert subjects.agents("f1", "started") == "fleetlog.f1.agent.*.started"
    assert subjects.tasks("f1") == "fleetlog.f1.task.*.*.*.*"
    assert subjects.tasks("f1", "q1", "high", "queued") == "fleetlog.f1.task.*.q1.high.queued"
    assert subjects.schedules("f1") == "fleetlog.f1.schedule.>"
    assert subjects.bounds_set("f1", "limit") == "fleetlog.f1.limit.*.set"
    assert subjects.bounds_set("f1", "budget", "k") == "fleetlog.f1.budget.k.set"
    assert subjects.beats("f1", "a1") == "fleetlog-beats.f1.a1"
    assert subjects.output("f1", "t1", 2) == "fleetlog-output.f1.t1.2"
    assert subjects.live("f1", "t1") == "fleetlog-live.f1.t1"
    assert subjects.service("f1", "query") == "fleetlog-service.f1.query"


def test_nothing_beside_the_log_matches_its_filter() -> None:
    beside = [subjects.beats("f1"), subjects.output("f1"), subjects.live("f1")]
    for text in [*beside, subjects.service("f1", "query")]:
        assert not text.startswith(subjects.everything("f1").removesuffix(">"))


def test_the_object_store_has_the_layout_of_all_nats_clients() -> None:
    assert subjects.object_bucket("f1") == "FLEETLOG_f1"
    assert subjects.object_stream("f1") == "OBJ_FLEETLOG_f1"
    assert subjects.object_subjects("f1") == ("$O.FLEETLOG_f1.C.>", "$O.FLEETLOG_f1.M.>")


def test_stream_names() -> None:
    names = ("FLEETLOG_f1", "FLEETLOG_f1_BEATS", "FLEETLOG_f1_OUTPUT")
    assert subjects.stream_names("f1") == names


@pytest.mark.parametrize("fleet", ["", "a.b", "a b", "*", ">", "a/b"])
def test_a_fleet_whose_name_is_no_token_is_refused(fleet: str) -> None:
    with pytest.raises(InvalidInput, match=r"^fleet "):
        subjects.stream_names(fleet)


@pytest.mark.parametrize("fleet", ["f1_BEATS", "f1_OUTPUT", "_BEATS"])
def test_a_fleet_whose_log_would_be_anothers_beats_or_output_is_refused(fleet: str) -> None:
    with pytest.raises(InvalidInput, match="must not end in _BEATS or _OUTPUT"):
        subjects.stream_names(fleet)
