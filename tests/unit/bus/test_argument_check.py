"""What a person reads about arguments that do not fit, and what is left to the handler."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from fleetlog.bus.argument_check import check_arguments


class Place(msgspec.Struct, forbid_unknown_fields=True):
    x: int
    y: Literal["a", "b"] = "a"


class Wait(msgspec.Struct, tag="wait"):
    n: int


class Stop(msgspec.Struct, tag="stop"):
    n: str


class Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    host: str
    n: int | None = None
    place: Place | None = None
    places: list[Place] = []
    step: Wait | Stop | None = None
    level: Annotated[int, Meta(ge=1, le=3)] = 1
    pair: tuple[int, str] = (1, "x")
    counts: dict[str, int] = {}
    word: Annotated[str, Meta(min_length=2, pattern="^a")] = "ab"
    few: Annotated[list[int], Meta(max_length=2)] = []
    names: Annotated[dict[Annotated[str, Meta(max_length=3)], int], Meta(min_length=1)] | None = (
        None
    )


SCHEMA = msgspec.json.schema(Arguments)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("[]", "all of it must be an object, not []"),
        ("{}", "host must be a string, but is missing"),
        ('{"host": 1}', "host must be a string, not 1"),
        ('{"hosst": "x"}', "hosst is not known; did you mean host?"),
        ('{"host": "x", "n": "1"}', 'n must be an integer or null, not "1"'),
        ('{"host": "x", "n": true}', "n must be an integer or null, not true"),
        ('{"host": "x", "n": 1.0}', "n must be an integer or null, not 1.0"),
        ('{"host": "x", "place": {}}', "place.x must be an integer, but is missing"),
        (
            '{"host": "x", "place": {"x": 1, "y": "c"}}',
            'place.y must be "a" or "b", not "c"',
        ),
        ('{"host": "x", "place": {"x": 1, "z": 2}}', "place.z is not known; there is x, y"),
        (
            '{"host": "x", "places": [{"x": 1}, {"x": 1.5}]}',
            "places[1].x must be an integer, not 1.5",
        ),
        ('{"host": "x", "step": {"n": 1}}', 'step.type must be "wait" or "stop", but is missing'),
        ('{"host": "x", "step": {"type": "stop", "n": 1}}', "step.n must be a string, not 1"),
        (
            '{"host": "x", "step": {"type": ["stop"]}}',
            'step.type must be "wait" or "stop", not ["stop"]',
        ),
        ('{"host": "x", "step": 5}', "step must be an object or null, not 5"),
        ('{"host": "x", "level": 9}', "level must be at most 3, not 9"),
        ('{"host": "x", "pair": [1]}', "pair must be an array of 2, not of 1"),
        ('{"host": "x", "pair": [1, 2]}', "pair[1] must be a string, not 2"),
        ('{"host": "x", "counts": {"a": null}}', "counts.a must be an integer, not null"),
        ('{"host": "x", "word": "a"}', "word must be a string of at least 2 characters, not of 1"),
        ('{"host": "x", "word": "bb"}', 'word must be a string that matches ^a, not "bb"'),
        ('{"host": "x", "few": [1, 2, 3]}', "few must be an array of at most 2, not of 3"),
        ('{"host": "x", "names": {}}', "names must be an object of at least 1 or null, not of 0"),
        (
            '{"host": "x", "names": {"long": 1}}',
            "names.long must be a string of at most 3 characters, as a name",
        ),
        (
            f'{{"host": ["{"x" * 50}"]}}',
            f'host must be a string, not ["{"x" * 37}…',
        ),
    ],
)
def test_message_names_the_place_and_what_would_fit(args: str, expected: str) -> None:
    assert str(check_arguments(SCHEMA, args.encode())) == expected


@pytest.mark.parametrize(
    "schema",
    [
        True,
        None,
        5,
        {"type": "of-tomorrow"},
        {"type": ["object", "of-tomorrow"]},
        {"allOf": [False]},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "#"},
        {"properties": {"a": {"pattern": "("}}},
        {"additionalProperties": False, "patternProperties": {"^a$": {}}},
        {"required": 5},
        {"properties": {"a": {"contentEncoding": "base64", "maxLength": 0}}},
    ],
)
def test_what_is_not_understood_is_accepted(schema: Any) -> None:
    assert check_arguments(schema, b'{"a": "x"}') is None


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (False, "all of it must be left out"),
        ({"type": ["array", "null"]}, 'all of it must be an array or null, not {"a": "x"}'),
        ({"properties": {"a": {"const": "y"}}}, 'a must be "y", not "x"'),
        ({"required": ["b"]}, "b must be given, but is missing"),
        (
            {
                "required": ["b"],
                "properties": {"b": {"anyOf": [{"enum": [1, 2]}, {"$ref": "#/x"}]}},
            },
            "b must be 1 or 2 or given, but is missing",
        ),
        ({"$ref": "#/a~1b", "a/b": False}, "all of it must be left out"),
    ],
)
def test_plain_json_schema_is_understood_too(schema: Any, expected: str) -> None:
    assert str(check_arguments(schema, b'{"a": "x"}')) == expected


def test_large_numbers_are_compared_as_they_are() -> None:
    schema = {"properties": {"a": {"type": "integer", "minimum": 0}}}
    assert check_arguments(schema, b'{"a": 123456789012345678901234567890}') is None
    assert check_arguments(schema, b'{"a": %s}' % (b"9" * 5000)) is None
