"""`fleetlog log export`."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine

from fleetlog.bus.client import Client
from fleetlog.bus.embedded.runtime import resolve_target
from fleetlog.bus.log import Append
from fleetlog.bus.settings import Settings

ODD = {
    b"\xff\xfe": None,
    b'{"type": "task.of-tomorrow",\r\n "id": "x"}': {"type": "task.of-tomorrow", "id": "x"},
}


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
async def other(cli: CommandLine, fleet: str) -> str:
    """A fleet on the same server: a task, then events that nobody can read."""
    settings = Settings(data=cli.data, fleet=fleet)
    target = resolve_target(Settings(data=cli.data))
    async with Client.connect(settings=settings, target=target) as client:
        for number, data in enumerate(ODD):
            guard = f"fleetlog.{fleet}.task.odd{number}.>"
            subject = f"fleetlog.{fleet}.task.odd{number}.default.normal.queued"
            await client.fleet.log.append(Append(subject, guard, 0, "e", data))
    cli("--fleet", fleet, "submit", "add", '{"a": 1}')
    return fleet


def test_every_event_is_a_line_as_it_stands_in_the_log(cli: CommandLine) -> None:
    cli("submit", "add", '{"a": 1}', "--wait")
    shown = cli("log", "tail", "--after", "0", "--json").value
    exported = lines_of(cli("log", "export", "--until", str(shown[-1]["seq"])).out)
    assert [line["seq"] for line in exported] == [event["seq"] for event in shown]
    readable = [pair for pair in zip(exported, shown, strict=True) if "problem" not in pair[0]]
    assert len(readable) > 2
    for line, event in readable:
        assert list(line) == ["seq", "stored_at", "subject", "event"]
        assert {**line.pop("event"), **line} == event


def test_part_of_the_log_goes_to_a_file(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    ran = cli("log", "export", "--after", "1", "--until", "3", "--out", str(file))
    assert ran.out == ""
    assert f"2 events in {file}" in ran.err
    assert [line["seq"] for line in lines_of(file.read_text())] == [2, 3]
    assert list(tmp_path.iterdir()) == [file]
    assert cli("log", "export", "--after", "1000000").out == ""


def test_file_that_cannot_be_written_is_a_usage_error(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli.run("log", "export", "--out", str(tmp_path / "nowhere" / "log.jsonl"))
    assert ran.code == 2
    assert "cannot write" in ran.err


def test_unreadable_events_are_kept_and_flagged(cli: CommandLine, other: str) -> None:
    odd, tomorrow, queued = lines_of(cli("--fleet", other, "log", "export").out)
    assert b64decode(odd["data_base64"]) == b"\xff\xfe"
    assert "not JSON" in odd["problem"]
    assert tomorrow["event"] == {"type": "task.of-tomorrow", "id": "x"}
    assert "of-tomorrow" in tomorrow["problem"]
    assert "problem" not in queued
    assert queued["event"]["spec"]["handler"] == "add"


def test_cloudevents_have_what_the_specification_asks_for(cli: CommandLine, other: str) -> None:
    plain = lines_of(cli("--fleet", other, "log", "export").out)
    odd, tomorrow, queued = lines_of(cli("--fleet", other, "log", "export", "--cloudevents").out)
    for event, line in zip((odd, tomorrow, queued), plain, strict=True):
        assert event["specversion"] == "1.0"
        assert event["source"] == f"urn:fleetlog:{other}"
        assert event["subject"] == line["subject"]
        assert datetime.fromisoformat(event["time"]) == datetime.fromisoformat(line["stored_at"])
        assert event["sequence"] == f"{line['seq']:020}"
        assert all(name.isalnum() or name == "data_base64" for name in event)
    assert queued["id"] == queued["data"]["id"]
    assert queued["type"] == "task.queued"
    assert queued["dataschema"] == "urn:fleetlog:schema:task.queued:1"
    assert queued["datacontenttype"] == "application/json"
    assert queued["data"] == plain[2]["event"]
    assert (tomorrow["id"], tomorrow["type"]) == ("seq-2", "task.of-tomorrow")
    assert (odd["id"], odd["type"]) == ("seq-1", "unreadable")
    assert odd["datacontenttype"] == "application/octet-stream"
    assert b64decode(odd["data_base64"]) == b"\xff\xfe"
    assert "problem" in odd


def test_terminal_sees_progress_that_goes_away(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli.on_terminal("log", "export", "--until", "2", "--out", str(tmp_path / "log.jsonl"))
    assert ran.code == 0
    assert "\x1b[" in ran.out
    assert "100%" in ran.out
    assert "2 events in" in ran.out.splitlines()[-1]


def test_reader_may_stop_early(cli: CommandLine) -> None:
    with cli.start("log", "export") as exporting:
        assert exporting.stdout is not None
        assert exporting.stdout.readline().startswith(b'{"seq":1,')
        exporting.stdout.close()
        assert exporting.stderr is not None
        assert b"Traceback" not in exporting.stderr.read()
