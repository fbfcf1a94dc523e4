"""Reading and writing events: nothing that comes from the log makes a reader stop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from fleetlog.schemas.envelope import (
    UPCASTS,
    Stored,
    UnknownEvent,
    Upcast,
    decode,
    encode,
    open_stored,
)
from fleetlog.schemas.events import (
    EVENT_TYPES,
    SCHEMA_VERSION,
    AgentDraining,
    AnyEvent,
    TaskCancelRequested,
    TaskCompleted,
    type_of,
    verb_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DRAINING = AgentDraining(id="e1", occurred_at=NOW)
FIELDS = {"id": "e1", "occurred_at": "2026-01-01T00:00:00Z"}


def written(**fields: Any) -> bytes:
    return msgspec.json.encode({**FIELDS, **fields})


def unknown(data: bytes, upcasts: dict[tuple[str, int], Upcast] | None = None) -> UnknownEvent:
    event = decode(data, upcasts or {})
    assert isinstance(event, UnknownEvent)
    return event


def test_an_event_is_one_json_object_with_its_type_first_and_always_its_version() -> None:
    assert encode(DRAINING) == (
        b'{"type":"agent.draining","id":"e1","occurred_at":"2026-01-01T00:00:00Z","v":1}'
    )
    assert decode(encode(DRAINING)) == DRAINING


def test_an_event_without_a_version_is_of_the_first() -> None:
    event = decode(written(type="agent.draining"))
    assert event == DRAINING
    assert isinstance(event, AgentDraining)
    assert event.v == SCHEMA_VERSION


def test_fields_of_a_later_writer_are_passed_over() -> None:
    assert decode(written(type="agent.draining", mood={"deep": [1]})) == DRAINING


def test_an_unknown_type_is_kept_by_name() -> None:
    event = unknown(written(type="task.paused"))
    assert event.type == "task.paused"
    assert "task.paused" in event.why


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not json",
        b'{"type":"agent.draining"',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe",
        b'{"type":"agent.draining","id":"\xe9"}',
        b'{"type":"agent.draining","id":"\\ud800"}',
        b'{"type":"agent.draining","v":' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_not_json_is_kept_as_unknown(data: bytes) -> None:
    event = unknown(data)
    assert event.type is None
    assert event.why.startswith("not JSON: ")


@pytest.mark.parametrize(
    "data", [b"null", b"1", b'"agent.draining"', b"[]", b"{}", b'{"type":1}', b'{"type":["a"]}']
)
def test_json_that_is_no_event_is_kept_as_unknown(data: bytes) -> None:
    assert unknown(data) == UnknownEvent(
        None, "not an event: a JSON object with a type was expected"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 7},
        {"id": None},
        {"occurred_at": "yesterday"},
        {"occurred_at": "2026-01-01T00:00:00"},
        {"occurred_at": 0},
        {"v": "1"},
        {"v": None},
        {"v": 1.5},
        {"v": True},
        {"v": [1]},
        {"attempts": "many"},
        {"fence": 1.5},
        {"usage": {"input_tokens": "x"}},
    ],
)
def test_an_event_of_the_wrong_shape_is_kept_by_its_type(fields: dict[str, Any]) -> None:
    event = unknown(written(**{"type": "task.completed", "attempts": 1, **fields}))
    assert event.type == "task.completed"
    assert event.why


def test_a_missing_field_is_named() -> None:
    assert "attempts" in unknown(written(type="task.completed")).why


@pytest.mark.parametrize("version", [-1, 0, 2, 99, 2**70])
def test_another_version_without_an_upcast_is_kept_as_unknown(version: int) -> None:
    event = unknown(written(type="agent.draining", v=version))
    assert event == UnknownEvent("agent.draining", f"schema version {version} is not known")


def test_an_older_event_is_lifted_step_by_step() -> None:
    seen: list[int] = []

    def lift(fields: dict[str, Any]) -> dict[str, Any]:
        seen.append(fields["v"])
        return {**fields, "steps": fields.get("steps", 0) + 1, "id": f"{fields['id']}+"}

    event = decode(
        written(type="agent.draining", v=-1),
        {("agent.draining", -1): lift, ("agent.draining", 0): lift},
    )
    assert event == AgentDraining(id="e1++", occurred_at=NOW)
    assert seen == [-1, 0]


def test_an_upcast_may_rename_the_type_and_the_next_goes_by_the_new_name() -> None:
    upcasts: dict[tuple[str, int], Upcast] = {
        ("agent.leaving", -1): lambda fields: {**fields, "type": "agent.draining"},
        ("agent.draining", 0): lambda fields: {**fields, "reason": "lifted"},
    }
    event = decode(written(type="agent.leaving", v=-1), upcasts)
    assert event == AgentDraining(id="e1", occurred_at=NOW, reason="lifted")


def test_an_upcast_keeps_raw_results() -> None:
    result = {"n": 2**70, "f": 1.5, "t": "é"}
    upcasts: dict[tuple[str, int], Upcast] = {
        ("task.done", 0): lambda fields: {
            **fields,
            "type": "task.completed",
            "attempts": fields["tries"],
        }
    }
    event = decode(written(type="task.done", v=0, tries=2, result=result), upcasts)
    assert isinstance(event, TaskCompleted)
    assert msgspec.json.decode(event.result) == result


def test_a_ladder_of_upcasts_with_a_missing_rung_leads_nowhere() -> None:
    event = unknown(
        written(type="agent.draining", v=-2), {("agent.draining", -2): lambda fields: fields}
    )
    assert event == UnknownEvent("agent.draining", "schema version -2 is not known")


def _lose_the_type(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "type"}


@pytest.mark.parametrize(
    "step",
    [
        lambda fields: {**fields, "id": fields["old_id"]},
        lambda fields: {**fields, "id": fields["id"] / 2},
        lambda fields: {**fields, "id": fields["id"].decode()},
        lambda fields: {**fields, "id": int(fields["id"])},
        lambda fields: {**fields, "id": 1 // 0},
        lambda fields: {**fields, "id": 7},
        lambda fields: {**fields, "id": object()},
        lambda fields: {**fields, "id": "\udcff"},
        lambda fields: {**fields, "type": "agent.asleep"},
        lambda fields: None,
        _lose_the_type,
    ],
)
def test_an_upcast_that_meets_what_it_did_not_expect_never_stops_the_reader(step: Upcast) -> None:
    event = unknown(written(type="agent.draining", v=0), {("agent.draining", 0): step})
    assert event.type == "agent.draining"
    assert event.why


def test_no_upcast_is_needed_yet() -> None:
    assert SCHEMA_VERSION == 1
    assert not UPCASTS


def test_a_stored_message_is_opened_in_its_place() -> None:
    opened = open_stored(Stored(7, 1_500, "fleetlog.f1.agent.a1.draining", encode(DRAINING)))
    assert opened.seq == 7
    assert opened.stored_at == datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert opened.subject is not None
    assert (opened.subject.id, opened.event) == ("a1", DRAINING)


def test_the_servers_time_is_exact_to_the_microsecond() -> None:
    stored = Stored(1, 1_767_225_600_123_456_789, "s", b"")
    assert stored.stored_at == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)


def test_a_message_under_another_subject_is_kept_as_unknown() -> None:
    opened = open_stored(Stored(7, 0, "fleetlog.f1.dream.d1.had", encode(DRAINING)))
    assert opened.subject is None
    assert opened.event == UnknownEvent(
        None, "'fleetlog.f1.dream.d1.had' is not a subject of the log"
    )


def test_a_message_that_cannot_be_read_keeps_its_subject() -> None:
    opened = open_stored(Stored(7, 0, "fleetlog.f1.agent.a1.draining", b"?"))
    assert opened.subject is not None
    assert isinstance(opened.event, UnknownEvent)


def test_type_and_verb_of_an_event() -> None:
    event = TaskCancelRequested(id="e1", occurred_at=NOW)
    assert type_of(event) == "task.cancel_requested"
    assert verb_of(event) == "cancel_requested"


def test_every_event_of_the_union_stands_in_the_table_of_types() -> None:
    assert set(AnyEvent.__args__) == set(EVENT_TYPES.values())
    assert all(type_of(kind) == name for name, kind in EVENT_TYPES.items())
