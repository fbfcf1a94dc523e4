"""Lines, tails and the contract's lines."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetlog.agents.executors.exec_v1 import (
    HeartbeatLine,
    LogLine,
    Meter,
    ProgressLine,
    ResultError,
    ResultLine,
    UsageLine,
    document,
    encode_tail,
    read_line,
    read_outcome,
)
from fleetlog.agents.executors.lines import JSON_CHARS_MAX, TEXT_CHARS_MAX, LineSplitter, Tail
from fleetlog.agents.frames import Deferred, Failed, Outcome, Run, Succeeded
from fleetlog.schemas.events import Usage
from fleetlog.schemas.objects import INLINE_MAX_BYTES

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.lists(st.text(alphabet="a{\n\r é")))
def test_a_splitter_loses_nothing_and_keeps_lines_whole(parts: list[str]) -> None:
    splitter = LineSplitter()
    pieces = [piece for part in parts for piece in splitter.feed(part)]
    assert all(piece.endswith("\n") for piece in pieces)
    assert all(piece.count("\n") == 1 for piece in pieces if "{" in piece)
    assert "".join(pieces) + splitter.end() == "".join(parts)


def test_a_long_line_passes_in_pieces_and_the_next_line_is_whole_again() -> None:
    splitter = LineSplitter()
    pieces = [p for _ in range(100) for p in splitter.feed("x" * 10_000)]
    pieces += splitter.feed('{"rest of": "the long line"}\n{"next": 1}\n')
    assert max(map(len, pieces)) < TEXT_CHARS_MAX + 10_000
    assert pieces[-1] == '{"next": 1}\n'
    assert sum(map(len, pieces)) == 1_000_000 + len('{"rest of": "the long line"}\n{"next": 1}\n')


def test_a_line_that_may_be_json_is_held_until_its_limit() -> None:
    splitter = LineSplitter()
    assert splitter.feed("{" + "x" * (JSON_CHARS_MAX - 1)) == []
    assert splitter.release() == ""
    assert len(splitter.feed("xx")[0]) == JSON_CHARS_MAX + 2
    assert splitter.feed("{") == []
    assert splitter.release() == "{", "the rest of a line that has passed is no JSON"


def test_an_unfinished_line_can_be_released() -> None:
    splitter = LineSplitter()
    splitter.feed("10 %")
    assert splitter.has_rest
    assert splitter.release() == "10 %"
    assert not splitter.has_rest
    assert splitter.feed(" done\n") == [" done\n"]


@given(st.lists(st.text(max_size=30)), st.integers(1, 50))
def test_a_tail_is_the_end_of_the_text(parts: list[str], size: int) -> None:
    tail = Tail(size)
    for part in parts:
        tail.add(part)
    assert tail.text() == "".join(parts)[-size:]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"type":"log","msg":"hi"}\n', LogLine("hi")),
        (' {"type":"log","msg":"hi","level":"warn","more":1}\r\n', LogLine("hi", "warn")),
        ('{"type":"progress","pct":10}', ProgressLine(10.0)),
        ('{"type":"heartbeat"}', HeartbeatLine()),
        ('{"type":"usage","input_tokens":3,"cost_usd":0.5}', UsageLine(3, 0, 0.5)),
        ('{"type":"result","status":"ok","output":[1]}', ResultLine("ok", msgspec.Raw(b"[1]"))),
    ],
)
def test_the_contracts_lines_are_read(text: str, line: object) -> None:
    assert read_line(text) == line


@pytest.mark.parametrize(
    "text",
    [
        *("plain", "", "[1]", '"log"', "{", '{"type":"log"}', '{"type":"progress","pct":"x"}'),
        *(
            '{"type":"metric","name":"n","value":1}',
            '{"msg":"no type"}',
            '{"type":"usage","input_tokens":-1}',
        ),
        *('{"type":"result","subtype":"success"}', '{"type":"result","status":"ok"} trailing'),
        *('{"type":"result","status":"ok","output":}', '{"type":1}', "{" * 100_000),
    ],
)
def test_every_other_line_is_output(text: str) -> None:
    assert read_line(text) is None


def test_usage_lines_add_up_and_name_the_model_with_most_tokens() -> None:
    meter = Meter()
    assert meter.total() is None
    meter.add(UsageLine(10, 5, 0.0000014, "small"))
    meter.add(UsageLine(100, 50, 1.25, "large"))
    meter.add(UsageLine(20))
    assert meter.total() == Usage(
        input_tokens=130, output_tokens=55, cost_micro_usd=1_250_001, model="large"
    )


PERMANENT = ResultError(message="bad key", retryable=False)
OK = ResultLine("ok", msgspec.Raw(b"[1]"))
ERROR = ResultLine("error", error=ResultError(message="no luck"))


@pytest.mark.parametrize(
    ("code", "result", "outcome"),
    [
        (0, None, Succeeded(b'"out"')),
        (0, OK, Succeeded(b"[1]")),
        (0, ERROR, Failed("error", "no luck")),
        (0, ResultLine("error"), Failed("error", "the command's result line says that it failed")),
        (0, ResultLine("error", error=PERMANENT), Failed("permanent", "bad key", True)),
        (1, None, Failed("error", "the command ended with code 1\nerr")),
        (1, OK, Failed("error", "the command ended with code 1\nerr")),
        (1, ERROR, Failed("error", "the command ended with code 1\nno luck\nerr")),
        (
            1,
            ResultLine("error", error=PERMANENT),
            Failed("permanent", "the command ended with code 1\nbad key\nerr", True),
        ),
        (64, None, Failed("permanent", "the command ended with code 64 (wrong usage)\nerr", True)),
        (65, None, Failed("permanent", "the command ended with code 65 (wrong input)\nerr", True)),
        (69, None, Failed("error", "the command ended with code 69\nerr")),
        (75, None, Deferred("the command ended with code 75\nerr", 30_000)),
        (
            77,
            None,
            Failed("permanent", "the command ended with code 77 (no permission)\nerr", True),
        ),
        (
            78,
            None,
            Failed("permanent", "the command ended with code 78 (wrong configuration)\nerr", True),
        ),
        (124, None, Failed("timeout", "the command ended with code 124\nerr")),
        (-9, None, Failed("error", "the command was ended by SIGKILL\nerr")),
        (-99, None, Failed("error", "the command was ended by signal 99\nerr")),
    ],
)
def test_exit_codes_and_result_lines_decide_the_outcome(
    code: int, result: ResultLine | None, outcome: Outcome
) -> None:
    assert read_outcome(code, result, stdout="out\n", stderr="err\n", now=NOW) == outcome


@pytest.mark.parametrize(
    ("retry_at", "delay_ms"),
    [
        ("2026-01-01T00:01:00Z", 60_000),
        ("2026-01-01T00:01:00", 60_000),
        ("2025-01-01T00:00:00Z", 0),
        ("9999-01-01T00:00:00Z", 315_360_000_000),
    ],
)
def test_retry_at_becomes_a_delay(retry_at: str, delay_ms: int) -> None:
    line = read_line(f'{{"type":"result","status":"error","error":{{"retry_at":"{retry_at}"}}}}')
    assert isinstance(line, ResultLine)
    failed = read_outcome(1, line, stdout="", stderr="", now=NOW)
    assert isinstance(failed, Failed)
    assert failed.delay_ms == delay_ms
    deferred = read_outcome(75, line, stdout="", stderr="", now=NOW)
    assert isinstance(deferred, Deferred)
    assert deferred.delay_ms == delay_ms


@pytest.mark.parametrize(
    "text", ["\x01" * 70_000, "é" * 60_000, "a" * 100_000, "\n\n", "\x01é" * 30_000]
)
def test_the_end_of_the_output_fits_into_an_event(text: str) -> None:
    encoded = encode_tail(text)
    assert len(encoded) <= INLINE_MAX_BYTES
    assert text.rstrip("\n").endswith(msgspec.json.decode(encoded))
    if len(text) > 10:
        assert len(encoded) > INLINE_MAX_BYTES - 20


def test_the_document_holds_what_the_contract_says() -> None:
    run = Run(
        run_id=1,
        task_id="t",
        attempt=2,
        fence=7,
        executor="command",
        handler="build",
        deadline=NOW,
        parent_id="p",
        traceparent="00-a-b-01",
    )
    read = msgspec.json.decode(document(run, msgspec.Raw(b'{"x":1}'), "/w"))
    assert read == {
        "v": 1,
        "task_id": "t",
        "attempt": 2,
        "kind": "build",
        "payload": {"x": 1},
        "deadline": "2026-01-01T00:00:00Z",
        "workdir": "/w",
        "context": {"parent_id": "p", "trace": {"traceparent": "00-a-b-01"}},
    }
