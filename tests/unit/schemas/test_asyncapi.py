"""The AsyncAPI document: golden, in itself consistent, and true to the streams and to the grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.asyncapi import ParserMissing, parse

from fleetlog.bus.jetstream.streams import beats_config, log_config, output_config
from fleetlog.schemas.asyncapi import asyncapi_document
from fleetlog.schemas.events import EVENT_TYPES
from fleetlog.schemas.subjects import VERBS, guard_of, parse_subject

GOLDEN = Path(__file__).parents[2] / "golden" / "asyncapi.json"
DOCUMENT = asyncapi_document()
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
NAMES = re.compile(r"\{([a-z_]+)\}")


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def resolve(pointer: str) -> Any:
    found: Any = DOCUMENT
    for token in pointer.removeprefix("#/").split("/"):
        found = found[token]
    return found


def filled(text: str, verb: str = "") -> str:
    return NAMES.sub(lambda name: {"verb": verb, "priority": "low"}.get(name[1], name[1]), text)


def test_golden_file_is_what_is_generated_in_the_same_order() -> None:
    """`fleetlog schema export > tests/golden/asyncapi.json` brings it up to date."""
    assert json.dumps(DOCUMENT, indent=2, ensure_ascii=False) + "\n" == GOLDEN.read_text()


def test_reference_parser_finds_nothing_wrong() -> None:
    try:
        finding = parse(json.dumps(DOCUMENT).encode())
    except ParserMissing as missing:
        pytest.skip(str(missing))
    assert finding.problems == []
    assert set(finding.messages) == {*EVENT_TYPES, "beats", "output"}


def test_reference_parser_sees_what_is_wrong() -> None:
    broken = {
        **DOCUMENT,
        "channels": {"task": {**CHANNELS["task"], "bindings": {"nats": {"a": 1}}}},
    }
    try:
        finding = parse(json.dumps(broken).encode())
    except ParserMissing as missing:
        pytest.skip(str(missing))
    assert finding.problems


def test_every_reference_leads_somewhere() -> None:
    pointers = set(references(DOCUMENT))
    assert len(pointers) > 2 * len(EVENT_TYPES)
    assert all(resolve(pointer) for pointer in pointers)


def test_everything_that_is_defined_is_used() -> None:
    pointers = set(references(DOCUMENT))
    for group in ("messages", "schemas"):
        assert {
            f"#/components/{group}/{name}" for name in DOCUMENT["components"][group]
        } <= pointers


@pytest.mark.parametrize("name", CHANNELS)
def test_parameters_are_those_of_the_address(name: str) -> None:
    channel = CHANNELS[name]
    assert set(channel["parameters"]) == set(NAMES.findall(channel["address"]))
    assert channel["bindings"] == {"nats": {}}


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_has_a_subject_of_the_grammar_and_a_message_of_its_own(event_type: str) -> None:
    kind, _, verb = event_type.partition(".")
    channel = CHANNELS[kind]
    assert verb in channel["parameters"]["verb"]["enum"]
    subject = parse_subject(filled(channel["address"], verb))
    assert filled(channel["x-jetstream"]["guard"]) == guard_of(subject)
    message = resolve(channel["messages"][event_type]["$ref"])
    payload = resolve(message["payload"]["$ref"])
    assert payload["properties"]["type"]["enum"] == [event_type]
    assert payload["description"] == EVENT_TYPES[event_type].__doc__


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_field_is_described(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    assert schema["description"]
    for field, wanted in schema["properties"].items():
        assert field == "type" or wanted["description"], field


def test_only_what_agents_are_and_keep_is_named_by_an_agent() -> None:
    named = [name for name, each in CHANNELS.items() if "agent_id" in each["parameters"]]
    assert named == ["agent", "worker", "beats"]


def test_a_channel_has_no_messages_but_its_own() -> None:
    for kind in VERBS.keys() & CHANNELS.keys():
        assert set(CHANNELS[kind]["messages"]) == {
            name for name in EVENT_TYPES if name.startswith(f"{kind}.")
        }


@pytest.mark.parametrize(
    ("channel", "config"),
    [
        *((kind, log_config("f1", 1)) for kind in ("task", "agent", "worker")),
        ("beats", beats_config("f1", 1)),
        ("output", output_config("f1", 1)),
    ],
)
def test_stream_facts_are_those_of_the_streams(channel: str, config: dict[str, Any]) -> None:
    facts = dict(CHANNELS[channel]["x-jetstream"])
    facts.pop("guard", None)
    assert facts.pop("stream").replace("{fleet}", "f1") == config["name"]
    assert facts == {name: config[name] for name in facts}
