"""JSON Schemas: they describe the structs, and every golden event fits its own."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from fleetlog.bus.argument_check import check_arguments
from fleetlog.schemas.descriptions import field_descriptions
from fleetlog.schemas.events import EVENT_TYPES, TaskQueued
from fleetlog.schemas.jsonschema import TASK_SPEC, bundled_json_schema, json_schemas, struct_schemas
from fleetlog.schemas.specs import TaskSpec
from tests.golden.samples import FOLDER, SAMPLES

SCHEMAS = json_schemas()


def properties(name: str, struct: str) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMAS[name]["$defs"][struct]["properties"]
    return found


def test_there_is_one_for_each_event_and_one_for_the_task_spec() -> None:
    assert set(SCHEMAS) == {*EVENT_TYPES, TASK_SPEC}
    assert SCHEMAS["task.held"]["$id"] == "urn:fleetlog:schema:task.held:1"
    assert SCHEMAS[TASK_SPEC]["$ref"] == "#/$defs/TaskSpec"


@pytest.mark.parametrize("name", SAMPLES)
def test_golden_events_fit(name: str) -> None:
    data = (FOLDER / f"{name}.json").read_bytes()
    assert check_arguments(SCHEMAS[name.rpartition(".")[0]], data) is None


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_another_events_type_does_not_fit(event_type: str) -> None:
    other = {**json.loads((FOLDER / f"{event_type}.full.json").read_bytes()), "type": "task.other"}
    misfit = check_arguments(SCHEMAS[event_type], json.dumps(other).encode())
    assert misfit is not None
    assert misfit.path == ("type",)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_described(name: str) -> None:
    for struct in SCHEMAS[name]["$defs"].values():
        assert struct["description"]
        for field, schema in struct["properties"].items():
            assert field == "type" or schema["description"], f"{name}.{field}"


def test_raw_fields_say_what_json_they_hold() -> None:
    assert properties(TASK_SPEC, "TaskSpec")["args"]["type"] == "object"
    result = properties("task.completed", "TaskCompleted")["result"]
    assert "type" not in result
    assert result["default"] is None


def test_bundle_has_every_event_and_every_struct_once() -> None:
    bundle = bundled_json_schema()
    assert len(bundle["oneOf"]) == len(EVENT_TYPES)
    assert {"TaskSpec", "Backoff", "Usage"} <= set(bundle["$defs"])
    assert list(bundle["$defs"]) == sorted(bundle["$defs"])


def test_descriptions_are_the_texts_below_the_fields_of_bases_too() -> None:
    found = field_descriptions(TaskQueued)
    assert found["failures"] == "Attempts that counted so far."
    assert found["cause"] == "The id of what led to it: an event, a command or a task."
    assert list(field_descriptions(TaskSpec)) == list(TaskSpec.__struct_fields__)


def test_without_source_there_are_no_descriptions() -> None:
    made = type("Made", (), {"__module__": "builtins"})
    assert field_descriptions(made) == {}


class Odd(msgspec.Struct):
    """Not every line of a class is a field, and not every line below a field its text."""

    described: int = 0
    """This is
    its text."""
    bare: int = 0
    other: int = 0
    5  # noqa: B018
    plain = 1
    """Of no field."""


def test_only_texts_right_below_fields_count() -> None:
    assert field_descriptions(Odd) == {"described": "This is its text."}
    schema = struct_schemas([Odd], "#/$defs/{name}")["Odd"]["properties"]
    assert schema["bare"] == {"type": "integer", "default": 0}
