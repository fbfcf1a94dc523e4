"""The check of arguments before a submit decides as the handler itself does."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import make_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from fleetlog.bus.argument_check import check_arguments
from tests.property.strategies import JSON_VALUE

NAMES = st.sampled_from(["a", "b", "c", "kind"])


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Circle(msgspec.Struct, tag="circle", tag_field="kind"):
    r: float


class Square(msgspec.Struct, tag="square", tag_field="kind", forbid_unknown_fields=True):
    a: int
    b: Literal["a", "b"] = "a"


class Pair(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    a: int
    b: str = "b"


class Tree(msgspec.Struct):
    a: int
    b: Tree | None = None


class Wanted(TypedDict, total=False):
    a: int


SCALARS: list[Any] = [
    *(int, float, bool, str, None, Any, bytes, Colour, Level, Literal["a", "red", 1, None]),
    *(Annotated[int, Meta(ge=-2, lt=7)], Annotated[int, Meta(gt=0, multiple_of=3)]),
    *(Annotated[float, Meta(gt=0, le=5.5)], Annotated[str, Meta(min_length=1, max_length=3)]),
    *(Annotated[str, Meta(pattern="^a|b$")], Annotated[bytes, Meta(max_length=3)]),
    *(Circle, Square, Pair, Tree, Wanted, Circle | Square, Circle | Square | None, dict, list),
    *(int | str, float | None, Tree | list[int] | str | None),
    make_dataclass("Point", [("a", int), ("b", str, "b")]),
]
FORMATTED: list[Any] = [datetime, date, UUID, Decimal, set[int], dict[int, int], dict[date, int]]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    of: list[Callable[[Any], Any]] = [
        lambda t: list[t],
        lambda t: tuple[t, ...],
        lambda t: tuple[t, int],
        lambda t: dict[str, t],
        lambda t: dict[Annotated[str, Meta(max_length=1)], t],
        lambda t: Annotated[list[t], Meta(min_length=1, max_length=2)],
        lambda t: Annotated[dict[str, t], Meta(min_length=1, max_length=2)],
    ]
    return st.builds(lambda make, t: make(t), st.sampled_from(of), inner)


def parameters(types: list[Any]) -> st.SearchStrategy[dict[str, tuple[Any, bool]]]:
    kinds = st.recursive(st.sampled_from(types), nested, max_leaves=4)
    return st.dictionaries(NAMES, st.tuples(kinds, st.booleans()), min_size=1, max_size=3)


LEAF = st.sampled_from(
    [0, 1, 3, 7, 1.5, 2.0, 10**30, -(10**30), True, None, "", "a", "red", "abcd", "circle"]
)
VALUE = st.recursive(
    LEAF | JSON_VALUE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(NAMES, VALUE, max_size=3)


def handler_type(wanted: dict[str, tuple[Any, bool]]) -> type[msgspec.Struct]:
    """The struct that an agent makes of a signature."""
    fields = [
        (name, kind) if is_required else (name, kind, msgspec.field(default_factory=lambda: None))
        for name, (kind, is_required) in wanted.items()
    ]
    return msgspec.defstruct("handler", fields, kw_only=True, forbid_unknown_fields=True)


def is_readable(kind: type[msgspec.Struct], args: bytes) -> bool:
    try:
        msgspec.json.decode(args, type=kind)
    except msgspec.ValidationError:
        return False
    return True


@given(parameters(SCALARS), ARGUMENTS)
def test_it_accepts_what_the_handler_accepts_and_nothing_else(
    wanted: dict[str, tuple[Any, bool]], arguments: dict[str, Any]
) -> None:
    kind = handler_type(wanted)
    args = msgspec.json.encode(arguments)
    misfit = check_arguments(msgspec.json.schema(kind), args)
    if is_readable(kind, args):
        assert misfit is None
    elif misfit is None:
        # Only the content of encoded bytes is left to the handler.
        assert "base64" in str(msgspec.json.schema(kind))


@given(parameters([*SCALARS, *FORMATTED]), ARGUMENTS)
def test_it_never_refuses_what_the_handler_takes(
    wanted: dict[str, tuple[Any, bool]], arguments: dict[str, Any]
) -> None:
    kind = handler_type(wanted)
    args = msgspec.json.encode(arguments)
    if is_readable(kind, args):
        assert check_arguments(msgspec.json.schema(kind), args) is None


SCHEMA_WORDS = st.sampled_from(
    [
        *(
            "type",
            "enum",
            "const",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "$ref",
        ),
        *("prefixItems", "anyOf", "pattern", "minimum", "minLength", "maxItems", "discriminator"),
        *("propertyNames", "#/a", "#", "object", "array", "string", "allOf", "a", "mapping"),
    ]
)
WILD_SCHEMA = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | SCHEMA_WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCHEMA_WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(WILD_SCHEMA, ARGUMENTS)
def test_no_schema_of_others_breaks_it(schema: Any, arguments: dict[str, Any]) -> None:
    misfit = check_arguments(schema, msgspec.json.encode(arguments))
    assert misfit is None or str(misfit)
