"""The streams of other agent CLIs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fleetlog.agents.executors.cli_stream import Bad, CliStream, Good
from fleetlog.agents.executors.cli_troubles import trouble_in
from fleetlog.agents.executors.other_streams import (
    CodexStream,
    GeminiStream,
    OpencodeStream,
    TextStream,
)
from fleetlog.schemas.events import Usage

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def fed(stream: CliStream, *lines: dict[str, Any]) -> str:
    """What is shown of them as an answer."""
    said = [each for line in lines for each in stream.feed(json.dumps(line) + "\n")]
    return "".join(each.text for each in said if each.stream == "stdout")


def bad(stream: CliStream, code: int = 1, stderr: str = "") -> str:
    verdict = stream.verdict(code, stderr, NOW)
    assert isinstance(verdict, Bad)
    return verdict.error_class


CODEX: list[dict[str, Any]] = [
    {"type": "thread.started", "thread_id": "th1"},
    {"type": "turn.started"},
    {"type": "item.started", "item": {"id": "i1", "type": "command_execution", "command": "ls"}},
    {"type": "item.completed", "item": {"id": "i1", "type": "command_execution", "exit_code": 0}},
    {"type": "item.completed", "item": {"id": "i2", "type": "agent_message", "text": "four"}},
    {
        "type": "turn.completed",
        "usage": {"input_tokens": 50, "cached_input_tokens": 20, "output_tokens": 7},
    },
]


def test_codex_says_session_answer_and_tokens() -> None:
    stream = CodexStream({})
    assert fed(stream, *CODEX[:3]) == ""
    assert stream.is_in_tool
    assert fed(stream, *CODEX[3:]) == "four\n"
    assert not stream.is_in_tool
    assert stream.session_id == "th1"
    assert stream.usage() == Usage(input_tokens=50, output_tokens=7)
    assert stream.verdict(0, "", NOW) == Good("four")
    assert bad(stream) == "crash"


def test_codex_that_fails_says_why() -> None:
    stream = CodexStream({})
    error = {"message": "You've hit your usage limit. Try again at 6:45 pm"}
    fed(stream, *CODEX[:2], {"type": "turn.failed", "error": error})
    verdict = stream.verdict(1, "", NOW)
    assert isinstance(verdict, Bad)
    assert verdict.error_class == "usage_limit"
    assert verdict.until == datetime(2026, 1, 2, 18, 45, tzinfo=UTC)
    got_over = CodexStream({})
    fed(got_over, {"type": "error", "message": "stream error: 503; retrying"}, *CODEX)
    assert got_over.verdict(0, "", NOW) == Good("four")


GEMINI: list[dict[str, Any]] = [
    {"type": "init", "session_id": "g1", "model": "gemini-x"},
    {"type": "message", "role": "user", "content": "2+2"},
    {"type": "tool_use", "tool_name": "add", "tool_id": "t", "parameters": {}},
    {"type": "tool_result", "tool_id": "t", "status": "success"},
    {"type": "message", "role": "assistant", "content": "fo", "delta": True},
    {"type": "message", "role": "assistant", "content": "ur", "delta": True},
    {
        "type": "result",
        "status": "success",
        "stats": {"input_tokens": 9, "output_tokens": 3, "cached": 4},
    },
]


def test_gemini_says_session_answer_and_tokens() -> None:
    stream = GeminiStream({"gemini-*": (1.0, 2.0, 0.0, 0.5)})
    fed(stream, *GEMINI[:3])
    assert stream.is_in_tool
    assert fed(stream, *GEMINI[3:]) == "four"
    assert stream.session_id == "g1"
    assert stream.usage() == Usage(
        input_tokens=9, output_tokens=3, cost_micro_usd=13, model="gemini-x"
    )
    assert stream.verdict(0, "", NOW) == Good("four")


def test_gemini_codes_and_errors_mean_what_they_mean() -> None:
    assert bad(GeminiStream({}), 42) == "permanent"
    assert bad(GeminiStream({}), 53) == "max_turns"
    stream = GeminiStream({})
    error = {"message": "Quota exceeded for quota metric"}
    fed(stream, GEMINI[0], {"type": "result", "status": "error", "error": error})
    assert bad(stream) == "usage_limit"
    assert bad(GeminiStream({}), 1, "Please set an Auth method in settings.json") == "auth"


OPENCODE: list[dict[str, Any]] = [
    {"type": "step_start", "sessionID": "o1", "part": {}},
    {"type": "text", "sessionID": "o1", "part": {"text": "four"}},
    {
        "type": "step_finish",
        "sessionID": "o1",
        "part": {
            "cost": 0.02,
            "tokens": {"input": 5, "output": 2, "reasoning": 1, "cache": {"read": 3, "write": 4}},
        },
    },
]


def test_opencode_says_session_answer_tokens_and_cost() -> None:
    stream = OpencodeStream({})
    assert fed(stream, *OPENCODE, *OPENCODE) == "four\nfour\n"
    assert stream.session_id == "o1"
    assert stream.usage() == Usage(input_tokens=24, output_tokens=6, cost_micro_usd=40_000)
    assert stream.verdict(0, "", NOW) == Good("four")


def test_opencode_that_fails_says_why() -> None:
    stream = OpencodeStream({})
    fed(stream, {"type": "error", "error": {"name": "X", "data": {"message": "invalid api key"}}})
    assert bad(stream, 0) == "auth"
    call = {"callID": "c", "tool": "bash", "state": {"status": "running"}}
    fed(stream, {"type": "tool_use", "part": call})
    assert stream.is_in_tool
    fed(stream, {"type": "tool_use", "part": {**call, "state": {"status": "completed"}}})
    assert not stream.is_in_tool


def test_text_is_the_answer_and_only_stderr_tells_of_trouble() -> None:
    stream = TextStream({})
    stream.feed("the limit\n")
    stream.feed("HTTP 429: too many requests, they said\n")
    assert stream.verdict(0, "", NOW) == Good("the limit\nHTTP 429: too many requests, they said")
    assert bad(stream, 1) == "error"
    assert bad(stream, 1, "litellm.RateLimitError: rate limit") == "throttled"
    assert stream.usage() is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Error: 401 Unauthorized", "auth"),
        ("OPENAI_API_KEY is missing", "auth"),
        ("API key not set", "auth"),
        ("status code: 429", "throttled"),
        ("HTTP/503 Service Unavailable", "transient"),
        ("429 tests failed at line 500", None),
        ("the billing module is broken", None),
        ("insufficient_quota", "billing"),
    ],
)
def test_words_of_trouble(text: str, kind: str | None) -> None:
    assert trouble_in(text) == kind
