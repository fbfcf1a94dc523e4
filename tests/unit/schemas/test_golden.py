"""Golden files: events as older releases wrote them, which every later one must read."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import fields

from fleetlog.schemas.envelope import decode, encode
from fleetlog.schemas.events import EVENT_TYPES, type_of
from tests.golden.samples import FOLDER, SAMPLES

FILES = sorted(FOLDER.parent.glob("v*/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_event_decodes_to_what_it_said(path: Path) -> None:
    assert decode(path.read_bytes()) == SAMPLES[path.stem]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_golden_event_of_this_version_is_written_back_to_the_same_bytes(path: Path) -> None:
    data = path.read_bytes().removesuffix(b"\n")
    event = decode(data)
    assert event == SAMPLES[path.stem]
    assert encode(SAMPLES[path.stem]) == data


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_type_has_a_golden_file(event_type: str) -> None:
    """`python -m tests.golden.samples` writes the missing ones."""
    named = {path.stem.rpartition(".")[0] for path in FILES}
    assert event_type in named


def test_every_sample_has_its_file_and_every_file_its_sample() -> None:
    assert {path.stem for path in FILES} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_samples_name_begins_with_its_type(name: str) -> None:
    assert name.rpartition(".")[0] == type_of(SAMPLES[name])


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_field_has_a_value_of_its_own_in_some_sample(event_type: str) -> None:
    kind = EVENT_TYPES[event_type]
    minimal = SAMPLES[f"{event_type}.minimal"]
    others = [sample for sample in SAMPLES.values() if type(sample) is kind]
    for field in fields(kind):
        if field.name != "v" and not field.required:
            plain = getattr(minimal, field.name)
            assert any(getattr(other, field.name) != plain for other in others), field.name
