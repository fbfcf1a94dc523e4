"""Events of the log as CloudEvents."""

from __future__ import annotations

import json

import msgspec
import pytest

from fleetlog.schemas.cloudevents import cloud_event
from fleetlog.schemas.envelope import Stored, encode, open_stored
from fleetlog.schemas.events import type_of
from tests.golden.samples import SAMPLES

AT_NS = 1_767_225_600_000_001_000


def exported(data: bytes, subject: str, *, is_json: bool = True) -> dict[str, object]:
    stored = Stored(7, AT_NS, subject, data)
    raw = msgspec.Raw(data) if is_json else None
    event = cloud_event("f1", stored, open_stored(stored), raw)
    decoded: dict[str, object] = json.loads(msgspec.json.encode(event))
    return decoded


@pytest.mark.parametrize("name", SAMPLES)
def test_every_event_keeps_its_data_and_its_id(name: str) -> None:
    sample = SAMPLES[name]
    event = exported(encode(sample), "fleetlog.f1.task.t1.default.normal.queued")
    assert event.pop("data") == json.loads(encode(sample))
    assert event == {
        "specversion": "1.0",
        "id": sample.id,
        "source": "urn:fleetlog:f1",
        "type": type_of(sample),
        "time": "2026-01-01T00:00:00.000001Z",
        "subject": "fleetlog.f1.task.t1.default.normal.queued",
        "sequence": "00000000000000000007",
        "dataschema": f"urn:fleetlog:schema:{type_of(sample)}:1",
        "datacontenttype": "application/json",
    }


def test_what_is_not_json_stands_in_base64() -> None:
    event = exported(b"\xff", "fleetlog.f1.task.t1.default.normal.queued", is_json=False)
    assert event["data_base64"] == "/w=="
    assert event["datacontenttype"] == "application/octet-stream"
    assert (event["id"], event["type"]) == ("seq-7", "unreadable")
    assert "dataschema" not in event
    assert "data" not in event


def test_event_of_another_version_keeps_its_type_and_says_why() -> None:
    event = exported(b'{"type": "task.of-tomorrow"}', "fleetlog.f1.task.t1.default.low.queued")
    assert (event["id"], event["type"]) == ("seq-7", "task.of-tomorrow")
    assert event["data"] == {"type": "task.of-tomorrow"}
    assert "of-tomorrow" in str(event["problem"])
