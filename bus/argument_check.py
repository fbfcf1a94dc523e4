"""Whether arguments fit a handler's JSON Schema, as far as it can be told before anything is written.

For the schemas that agents make of their handlers, and lenient: what it does not understand it accepts, since
the handler reads the arguments itself before it runs. It refuses only what the handler would refuse.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from fleetlog.bus.call import near_names

_SHOWN_MAX: Final = 40

_NAMES: Final[Mapping[str, str]] = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}

_NOT_UNDERSTOOD: Final = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    re.error,
)
"""What a schema of another make, or a number beyond Python's limits, runs into."""

Path = tuple[str | int, ...]


class Misfit(msgspec.Struct, frozen=True):
    """One value that does not fit."""

    path: Path
    """Names and indexes that lead to it."""
    wanted: tuple[str, ...]
    """What would fit: any of these; empty when nothing would."""
    found: str
    """What is there instead."""

    def __str__(self) -> str:
        place = ""
        for step in self.path:
            place += f"[{step}]" if isinstance(step, int) else f".{step}"
        place = place.removeprefix(".") or "all of it"
        if not self.wanted:
            return f"{place} {self.found}"
        return f"{place} must be {' or '.join(dict.fromkeys(self.wanted))}, {self.found}"


def check_arguments(schema: object, args: bytes | msgspec.Raw) -> Misfit | None:
    """What is wrong with arguments (JSON), None if nothing is, or if this can't tell."""
    try:
        # Not msgspec's reader: it makes floats of large integers.
        value = json.loads(bytes(args))
    except (ValueError, RecursionError):
        return None
    try:
        return _Check(schema).misfit(schema, value, ())
    except _NOT_UNDERSTOOD:
        return None


class _Check:
    """One schema document; the rules are asked in turn, the first misfit counts."""

    def __init__(self, document: object) -> None:
        self._document = document

    def misfit(self, schema: object, value: object, path: Path) -> Misfit | None:
        if schema is False:
            return Misfit(path, (), "must be left out")
        if not isinstance(schema, dict):
            return None
        return next(filter(None, self._misfits(schema, value, path)), None)

    def _misfits(self, schema: _Schema, value: object, path: Path) -> Iterator[Misfit | None]:
        if "$ref" in schema:
            yield self.misfit(self._referred(schema["$ref"]), value, path)
        if "anyOf" in schema:
            yield self._no_branch(schema, value, path)
        yield _wrong_type(schema, value, path)
        yield _not_listed(schema, value, path)
        match _type_of(value):
            case "integer" | "number":
                yield _wrong_number(schema, value, path)
            case "string":
                yield _wrong_text(schema, value, path)
            case "array":
                yield self._wrong_array(schema, value, path)
            case "object":
                yield self._wrong_object(schema, value, path)
            case _:
                pass

    def _referred(self, pointer: str) -> object:
        found = self._document
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _no_branch(self, schema: _Schema, value: object, path: Path) -> Misfit | None:
        """The misfit of the branch that was followed furthest; of several, all that they want."""
        branches = schema["anyOf"]
        match schema.get("discriminator"):
            case {"propertyName": str(name), "mapping": dict(mapping)} if isinstance(value, dict):
                if not isinstance(tag := value.get(name), str | int) or str(tag) not in mapping:
                    tags = tuple(_shown(each) for each in mapping)
                    return Misfit((*path, name), tags, _found(value, name))
                branches = [{"$ref": mapping[str(tag)]}]
            case _:
                pass
        misfits = []
        for branch in branches:
            if (misfit := self.misfit(branch, value, path)) is None:
                return None
            misfits.append(misfit)
        furthest = max(misfits, key=lambda each: len(each.path))
        wanted = [name for each in misfits if each.path == furthest.path for name in each.wanted]
        return msgspec.structs.replace(furthest, wanted=tuple(wanted))

    def _wrong_array(self, schema: _Schema, value: Any, path: Path) -> Misfit | None:
        # A set is given as an array, in which things may stand twice.
        counted = {} if schema.get("uniqueItems") else schema
        if (wanted := _wrong_size(counted, "Items", len(value))) is not None:
            return Misfit(path, (f"an array of {wanted}",), f"not of {len(value)}")
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        for index, item in enumerate(value):
            wanted_item = first[index] if index < len(first) else rest
            if (misfit := self.misfit(wanted_item, item, (*path, index))) is not None:
                return misfit
        return None

    def _wrong_object(self, schema: _Schema, value: Any, path: Path) -> Misfit | None:
        properties = schema.get("properties", {})
        more = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        for name in value:
            # First, because a name that is misspelled is missing too.
            if more is False and name not in properties:
                return Misfit((*path, name), (), f"is not known{near_names(name, properties)}")
        for name in schema.get("required", ()):
            # The tag of a struct may be missing where there is no other struct that it could be.
            if name not in value and not _is_tag(properties.get(name)):
                return Misfit((*path, name), self._wants(properties.get(name)), "but is missing")
        for name, item in value.items():
            inside = (*path, name)
            if (misfit := self.misfit(properties.get(name, more), item, inside)) is not None:
                return misfit
            if (misfit := self.misfit(schema.get("propertyNames"), name, inside)) is not None:
                return msgspec.structs.replace(misfit, found="as a name")
        if (wanted := _wrong_size(schema, "Properties", len(value))) is not None:
            return Misfit(path, (f"an object of {wanted}",), f"not of {len(value)}")
        return None

    def _wants(self, schema: object) -> tuple[str, ...]:
        """What a schema asks for, in words."""
        if not isinstance(schema, dict):
            return ("given",)
        if "$ref" in schema:
            return self._wants(self._referred(schema["$ref"]))
        if "anyOf" in schema:
            return tuple(name for branch in schema["anyOf"] for name in self._wants(branch))
        if "enum" in schema:
            return tuple(_shown(each) for each in schema["enum"])
        return tuple(_NAMES.get(name, name) for name in _types(schema)) or ("given",)


_Schema = dict[str, Any]


def _wrong_type(schema: _Schema, value: object, path: Path) -> Misfit | None:
    types = _types(schema)
    is_decimal = schema.get("format") == "decimal" and _type_of(value) in ("integer", "number")
    if not types or is_decimal or any(_is_of(value, each) for each in types):
        return None
    return Misfit(path, tuple(_NAMES[each] for each in types), _not(value))


def _types(schema: _Schema) -> list[str]:
    """The types that a schema names; none if it names one that is not known here."""
    named = schema.get("type", [])
    types = named if isinstance(named, list) else [named]
    return types if all(each in _NAMES for each in types) else []


def _is_of(value: object, name: str) -> bool:
    found = _type_of(value)
    return found == name or (found == "integer" and name == "number")


def _not_listed(schema: _Schema, value: object, path: Path) -> Misfit | None:
    listed = (
        schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else None
    )
    if listed is None or any(
        _type_of(each) == _type_of(value) and each == value for each in listed
    ):
        return None
    return Misfit(path, tuple(_shown(each) for each in listed), _not(value))


_BOUNDS: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str]]] = {
    "minimum": (lambda value, bound: value >= bound, "at least"),
    "maximum": (lambda value, bound: value <= bound, "at most"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "more than"),
    "exclusiveMaximum": (lambda value, bound: value < bound, "less than"),
    "multipleOf": (lambda value, unit: math.fmod(value, unit) == 0, "a multiple of"),
}


def _wrong_number(schema: _Schema, value: Any, path: Path) -> Misfit | None:
    number = float(value) if schema.get("type") == "number" else value
    for name, (fits, words) in _BOUNDS.items():
        if name in schema and not fits(number, schema[name]):
            return Misfit(path, (f"{words} {schema[name]}",), _not(value))
    return None


def _wrong_text(schema: _Schema, value: Any, path: Path) -> Misfit | None:
    # The limits of encoded bytes count what is encoded.
    counted = {} if "contentEncoding" in schema else schema
    if (wanted := _wrong_size(counted, "Length", len(value))) is not None:
        return Misfit(path, (f"a string of {wanted} characters",), f"not of {len(value)}")
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        return Misfit(path, (f"a string that matches {schema['pattern']}",), _not(value))
    return None


def _wrong_size(schema: _Schema, of: str, size: int) -> str | None:
    """The size that is wanted in words, if `size` is another one."""
    least, most = schema.get(f"min{of}", 0), schema.get(f"max{of}", math.inf)
    if least <= size <= most:
        return None
    if least == most:
        return f"{least}"
    return f"at least {least}" if size < least else f"at most {most}"


def _is_tag(schema: object) -> bool:
    return isinstance(schema, dict) and len(schema.get("enum", ())) == 1


def _type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _found(value: _Schema, name: str) -> str:
    return _not(value[name]) if name in value else "but is missing"


def _not(value: object) -> str:
    return f"not {_shown(value)}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
