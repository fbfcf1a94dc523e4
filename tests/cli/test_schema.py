"""`fleetlog schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import CommandLine

from fleetlog.schemas.events import EVENT_TYPES

GOLDEN = Path(__file__).parents[1] / "golden" / "asyncapi.json"


def test_export_prints_the_asyncapi_document(nowhere: CommandLine) -> None:
    """`fleetlog schema export > tests/golden/asyncapi.json` brings the golden file up to date."""
    ran = nowhere("schema", "export")
    assert ran.err == ""
    assert ran.out == GOLDEN.read_text()


def test_export_of_json_schema_is_one_document_for_any_event(nowhere: CommandLine) -> None:
    document = nowhere("schema", "export", "--format", "json-schema").value
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == "urn:fleetlog:schema:event:1"
    assert len(document["oneOf"]) == len(EVENT_TYPES)


def test_export_writes_a_file_for_each_type(nowhere: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    ran = nowhere("schema", "export", "--out", str(folder))
    assert ran.out == ""
    names = {path.name.removesuffix(".schema.json") for path in folder.iterdir()}
    assert names == {*EVENT_TYPES, "task-spec", "asyncapi.json"}
    assert f"{len(names)} files in {folder}" in ran.err
    assert (folder / "asyncapi.json").read_text() == GOLDEN.read_text()
    queued = json.loads((folder / "task.queued.schema.json").read_text())
    assert queued["$id"] == "urn:fleetlog:schema:task.queued:1"


@pytest.mark.parametrize(
    ("form", "count"), [("asyncapi", 1), ("json-schema", len(EVENT_TYPES) + 1)]
)
def test_export_writes_one_format_alone(
    nowhere: CommandLine, tmp_path: Path, form: str, count: int
) -> None:
    nowhere("schema", "export", "--format", form, "--out", str(tmp_path))
    assert len(list(tmp_path.glob("*.json"))) == count


def test_export_refuses_what_it_cannot_do(nowhere: CommandLine, tmp_path: Path) -> None:
    ran = nowhere.run("schema", "export", "--format", "asynapi")
    assert (ran.code, ran.out) == (2, "")
    assert "there is no format 'asynapi'; did you mean asyncapi?" in ran.err
    (tmp_path / "file").touch()
    ran = nowhere.run("schema", "export", "--out", str(tmp_path / "file"))
    assert ran.code == 2
    assert "cannot write into" in ran.err
