"""Whatever is written can be read, and whatever is read stops nobody."""

from __future__ import annotations

import random
from datetime import UTC

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetlog.schemas.durations import DURATION_MAX_MS, format_duration, parse_duration
from fleetlog.schemas.envelope import Stored, UnknownEvent, decode, encode, open_stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import EVENT_TYPES, AnyEvent
from fleetlog.schemas.ids import check_id, key_id, time_ordered_id
from fleetlog.schemas.specs import TaskSpec, check_spec, payload_digest, read_json
from fleetlog.schemas.subjects import (
    PRIORITIES,
    VERBS,
    Subject,
    format_subject,
    guard_of,
    parse_subject,
)
from tests.golden.samples import SAMPLES
from tests.property.strategies import (
    EVENTS,
    JSON_OBJECT,
    JSON_VALUE,
    OTHER_EVENTS,
    SPECS,
    TASK_EVENTS,
    TOKEN,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)


def test_every_event_type_is_generated() -> None:
    assert set(TASK_EVENTS) | set(OTHER_EVENTS) == set(EVENT_TYPES.values())


@given(EVENTS)
def test_every_event_reads_back_as_it_was_written(event: AnyEvent) -> None:
    data = encode(event)
    assert decode(data) == event
    assert encode(decode(data)) == data  # type: ignore[arg-type]  # equal to `event`, as just seen


@given(SPECS)
def test_every_allowed_spec_is_accepted_and_reads_back(spec: TaskSpec) -> None:
    assert check_spec(spec) is spec
    assert msgspec.json.decode(msgspec.json.encode(spec), type=TaskSpec) == spec


@given(
    st.builds(
        TaskSpec,
        handler=ANY_TEXT,
        args=st.binary(max_size=30).map(msgspec.Raw),
        executor=ANY_TEXT,
        queue=ANY_TEXT | TOKEN,
        key=st.none() | ANY_TEXT,
        labels=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2),
        max_attempts=st.integers(),
        timeout_ms=st.none() | st.integers(),
        delay_ms=st.integers(),
        parent_id=st.none() | ANY_TEXT,
    )
)
def test_a_spec_of_any_values_is_accepted_or_refused_as_invalid(spec: TaskSpec) -> None:
    try:
        check_spec(spec)
    except InvalidInput:
        return
    payload_digest(spec)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=TaskSpec).queue == spec.queue


@given(st.binary(max_size=200))
@example(b'{"type":"task.completed","v":[]}')
def test_random_bytes_are_kept_as_unknown(data: bytes) -> None:
    assert isinstance(decode(data), UnknownEvent)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_a_damaged_event_stops_nobody(name: str, data: st.DataObject) -> None:
    whole = bytearray(encode(SAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=2))
    event = decode(bytes(whole))
    assert isinstance(event, (UnknownEvent, *EVENT_TYPES.values()))


@given(st.dictionaries(st.sampled_from(["id", "occurred_at", "v", "spec", "fence"]), JSON_VALUE))
@example({"v": 2**80})
def test_an_event_with_fields_of_any_kind_stops_nobody(fields: dict[str, object]) -> None:
    for name in EVENT_TYPES:
        decode(msgspec.json.encode({**fields, "type": name}))


@given(st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1), ANY_TEXT, st.binary(max_size=20))
def test_any_stored_message_opens(seq: int, ns: int, subject: str, data: bytes) -> None:
    opened = open_stored(Stored(seq, ns, subject, data))
    assert opened.seq == seq
    assert opened.stored_at.tzinfo is UTC
    assert isinstance(opened.event, UnknownEvent)


def _subjects() -> st.SearchStrategy[Subject]:
    def of(kind: str) -> st.SearchStrategy[Subject]:
        verb = st.sampled_from(sorted(VERBS[kind]))
        more: dict[str, st.SearchStrategy[str]] = {}
        if kind == "task":
            more = {"queue": TOKEN, "priority": st.sampled_from(PRIORITIES)}
        elif kind == "worker":
            more = {"worker_id": TOKEN}
        return st.builds(Subject, fleet=TOKEN, kind=st.just(kind), id=TOKEN, verb=verb, **more)

    return st.sampled_from(sorted(VERBS)).flatmap(of)


@given(_subjects())
def test_every_subject_reads_back_and_is_covered_by_its_guard(subject: Subject) -> None:
    text = format_subject(subject)
    assert parse_subject(text) == subject
    assert text.startswith(guard_of(subject).removesuffix(">"))


@given(_subjects(), st.integers(0, 60), st.sampled_from([".", "*", ">", " ", "", "é", "..", "\n"]))
def test_a_damaged_subject_is_refused_or_says_exactly_what_it_is(
    subject: Subject, place: int, damage: str
) -> None:
    text = format_subject(subject)
    damaged = text[:place] + damage + text[place + 1 :]
    try:
        parsed = parse_subject(damaged)
    except InvalidInput:
        return
    assert format_subject(parsed) == damaged
    check_id(parsed.id)
    check_id(parsed.fleet)


@given(st.integers(0, DURATION_MAX_MS))
def test_every_duration_reads_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@given(ANY_TEXT | st.from_regex(r"\A([0-9]{0,20}\.?[0-9]{0,12}(ms|s|m|h|d|w)?){1,4}\Z"))
def test_any_text_is_a_duration_or_refused_as_invalid(text: str) -> None:
    try:
        ms = parse_duration(text)
    except InvalidInput:
        return
    assert 0 <= ms <= DURATION_MAX_MS


@given(
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**48 - 1),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
)
def test_ids_sort_as_their_times_do(one_ms: int, other_ms: int, one: bytes, other: bytes) -> None:
    first, second = time_ordered_id(one_ms, one), time_ordered_id(other_ms, other)
    assert check_id(first)
    assert len(first) == 26
    if one_ms != other_ms:
        assert (first < second) == (one_ms < other_ms)


@given(ANY_TEXT)
def test_any_key_becomes_an_id_or_is_refused_as_invalid(key: str) -> None:
    try:
        task_id = key_id(key)
    except InvalidInput:
        return
    assert check_id(task_id) == key_id(key)


@given(JSON_OBJECT, st.integers(), st.sampled_from(PRIORITIES))
def test_the_digest_ignores_order_white_space_and_priority(
    arguments: dict[str, object], seed: int, priority: str
) -> None:
    items = list(arguments.items())
    random.Random(seed).shuffle(items)
    shuffled = msgspec.json.format(msgspec.json.encode(dict(items)), indent=3)
    plain = TaskSpec(handler="h", args=msgspec.Raw(msgspec.json.encode(arguments)))
    other = TaskSpec(handler="h", args=msgspec.Raw(shuffled), priority=priority)  # type: ignore[arg-type]  # drawn from PRIORITIES
    assert payload_digest(plain) == payload_digest(other)


@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_refused_as_invalid(data: bytes) -> None:
    try:
        value = read_json(data, "result")
    except InvalidInput:
        return
    msgspec.json.encode(value)


@pytest.mark.parametrize("levels", [1, 50, 101, 500, 5_000])
def test_the_depth_that_is_refused_does_not_depend_on_the_stack(levels: int) -> None:
    def accepted() -> bool:
        try:
            read_json(b"[" * levels + b"]" * levels, "result")
        except InvalidInput:
            return False
        return True

    def deep_down(frames: int) -> bool:
        return accepted() if frames == 0 else deep_down(frames - 1)

    assert accepted() is deep_down(300) is (levels <= 100)
