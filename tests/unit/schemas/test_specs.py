"""Task specs: what is accepted, and what makes two specs the same work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.durations import DURATION_MAX_MS
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES, ObjectRef
from fleetlog.schemas.specs import (
    AFTER_MAX,
    JSON_DEPTH_MAX,
    Backoff,
    TaskSpec,
    check_spec,
    payload_digest,
    read_json,
)


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec(**{"handler": "greet", **fields})


def with_args(text: str | bytes) -> TaskSpec:
    return spec(args=msgspec.Raw(text))


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"args": msgspec.Raw(b'{ "name" : "\xc3\xa9", "n": [1.5, null, true]}')},
        {"executor": "command", "queue": "gpu-1", "priority": "low", "key": "k" * 1024},
        {
            "labels": {"team": "", "é": "x"},
            "parent_id": "p1",
            "schedule": "s",
            "max_attempts": 1000,
        },
        {"backoff": Backoff(first_ms=0, max_ms=DURATION_MAX_MS), "delay_ms": DURATION_MAX_MS},
        {"executor": "command", "repo": "/src/my shop"},
        {"executor": "claude", "repo": "shop"},
        {"timeout_ms": None, "start_within_ms": 1, "silence_ms": 1, "expires_ms": 1},
    ],
)
def test_allowed_specs_pass_as_they_are(fields: dict[str, Any]) -> None:
    whole = spec(**fields)
    assert check_spec(whole) is whole
    assert msgspec.json.decode(msgspec.json.encode(whole), type=TaskSpec) == whole


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"handler": ""}, "handler"),
        ({"handler": "h" * 257}, "handler"),
        ({"executor": ""}, "executor"),
        ({"queue": "a.b"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"queue": "*"}, "queue"),
        ({"priority": "urgent"}, "priority"),
        ({"key": ""}, "key"),
        ({"key": "k" * 1025}, "key"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"l" * 257: "x"}}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": {1: "a"}}, "labels"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 1001}, "max_attempts"),
        ({"max_attempts": 1.5}, "max_attempts"),
        ({"backoff": Backoff(first_ms=-1)}, "first_ms"),
        ({"backoff": Backoff(max_ms=DURATION_MAX_MS + 1)}, "max_ms"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": 2**70}, "timeout_ms"),
        ({"start_within_ms": 0}, "start_within_ms"),
        ({"silence_ms": -1}, "silence_ms"),
        ({"expires_ms": True}, "expires_ms"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"delay_ms": DURATION_MAX_MS + 1}, "delay_ms"),
        ({"parent_id": "a.b"}, "parent id"),
        ({"schedule": "a.b"}, "schedule"),
        ({"executor": "command", "repo": ""}, "repo"),
        ({"executor": "command", "repo": "src/shop"}, "repo"),
        ({"executor": "command", "repo": "/src/\0"}, "repo"),
        ({"repo": "/src/shop"}, "repo is for commands"),
        ({"args": b"{}"}, "args"),
        ({"args_ref": ObjectRef(sha256="0" * 64, size=1)}, "args_ref"),
    ],
)
def test_a_refusal_names_the_field(fields: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidInput, match=names):
        check_spec(spec(**fields))


@pytest.mark.parametrize("field", ["handler", "executor", "key"])
def test_text_that_is_not_unicode_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be accepted|valid Unicode"):
        check_spec(spec(**{field: "a\udcff"}))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "{} {}", '{"a":NaN}', "{'a':1}", '{"a":1,}', '{},"handler":"other"'),
        *('{"a":"\\ud800"}', b'{"a":"\xff"}', b'{"\xff":1}', '{"a":' + "9" * 5000 + "}"),
    ],
)
def test_arguments_that_are_not_json_are_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidInput, match="arguments must be valid JSON"):
        check_spec(with_args(text))


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("1", "int"), ("null", "NoneType")])
def test_arguments_that_are_not_an_object_are_refused(text: str, kind: str) -> None:
    with pytest.raises(InvalidInput, match=f"must be one JSON object .*, not {kind}"):
        check_spec(with_args(text))


@pytest.mark.parametrize("levels", [JSON_DEPTH_MAX, 10_000, 1_000_000])
def test_arguments_nested_too_deep_are_refused(levels: int) -> None:
    with pytest.raises(InvalidInput, match="arguments must not nest deeper than 100 levels"):
        check_spec(with_args('{"a":' + nested(levels) + "}"))


def test_arguments_may_nest_as_deep_as_allowed() -> None:
    check_spec(with_args('{"a":' + nested(JSON_DEPTH_MAX - 1) + "}"))
    check_spec(with_args('{"a":' * JSON_DEPTH_MAX + "1" + "}" * JSON_DEPTH_MAX))


def test_arguments_past_the_largest_size_are_refused() -> None:
    check_spec(with_args(b'{"a":"' + b"x" * (PAYLOAD_MAX_BYTES - 8) + b'"}'))
    with pytest.raises(InvalidInput, match=f"at most {PAYLOAD_MAX_BYTES} are allowed"):
        check_spec(with_args(b'{"a":"' + b"x" * (PAYLOAD_MAX_BYTES - 7) + b'"}'))


def test_white_space_around_arguments_is_allowed() -> None:
    check_spec(with_args('\n {"a" : 1} \t'))


def test_any_json_value_is_read() -> None:
    assert read_json(msgspec.Raw(b'[1,"a"]'), "result") == [1, "a"]
    assert read_json(b"3", "result") == 3


def test_the_digest_ignores_how_arguments_are_written() -> None:
    plain = payload_digest(with_args('{"a":1,"b":{"c":"\\u00e9","d":2}}'))
    assert plain == payload_digest(with_args('\n{ "b" : {"d":2, "c":"é"} , "a" : 1 }'))


@pytest.mark.parametrize(
    "fields",
    [
        {"queue": "other"},
        {"priority": "high"},
        {"key": "k"},
        {"labels": {"a": "b"}},
        {"max_attempts": 9},
        {"backoff": Backoff(first_ms=1)},
        {"timeout_ms": 1},
        {"schedule": "s"},
        {"start_within_ms": 1},
        {"silence_ms": 1},
        {"expires_ms": 1},
        {"delay_ms": 1},
        {"parent_id": "p1"},
    ],
)
def test_the_digest_ignores_the_rules_for_running(fields: dict[str, Any]) -> None:
    assert payload_digest(spec(**fields)) == payload_digest(spec())


def test_the_digest_tells_other_work_apart() -> None:
    works = [
        spec(),
        spec(handler="other"),
        spec(executor="command"),
        spec(executor="command", repo="/src/shop"),
        spec(executor="command", repo="shop"),
        with_args('{"a":1}'),
        with_args('{"a":"1"}'),
        with_args('{"a":[1,2]}'),
        with_args('{"a":[2,1]}'),
        with_args(f'{{"a":{2**70}}}'),
        with_args(f'{{"a":{2**70 + 1}}}'),
    ]
    assert len({payload_digest(work) for work in works}) == len(works)


def test_the_digest_is_the_same_for_ever() -> None:
    """A stored digest is compared with one made years later: a change here breaks every key in every log."""
    digest = payload_digest(spec(args=msgspec.Raw(b'{"b":1,"a":[true,null,1.5,"\xc3\xa9"]}')))
    assert digest == "SFeaqdW09NpDW8GvB8g9cA"
    assert len(digest) == 22
    assert check_id(digest)


def test_defaults_take_no_room_in_the_log() -> None:
    assert msgspec.json.encode(spec()) == b'{"handler":"greet"}'


def test_there_is_a_most_of_tasks_to_wait_for() -> None:
    check_spec(spec(after=("x",) * AFTER_MAX, barrier_id="b"))
    with pytest.raises(InvalidInput, match="use a fan-out"):
        check_spec(spec(after=("x",) * (AFTER_MAX + 1)))
    with pytest.raises(InvalidInput, match="task id"):
        check_spec(spec(after=("no id",)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"limits": ("a", "b", "a")}, "one of the limits is named twice"),
        ({"budgets": tuple(f"b{n}" for n in range(17))}, "at most 16 budgets, not 17"),
        ({"limits": ("",)}, "a key must have 1 to 1024 characters"),
        ({"fair_key": "x" * 1025}, "a key must have 1 to 1024 characters"),
        ({"budget": Budget(action="stop")}, "a budget needs an amount"),
    ],
)
def test_gates_that_can_not_be_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_spec(TaskSpec(handler="h", **fields))


def test_the_budget_of_a_tree_counts_beside_those_it_is_under() -> None:
    spec = TaskSpec(handler="h", budgets=("b",), budget=Budget(tokens=1))
    assert check_spec(spec).budget_keys("t") == ("b", "t")
