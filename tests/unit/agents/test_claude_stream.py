"""The stream of the Claude CLI: what its lines come to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetlog.agents.executors.claude_stream import ClaudeStream
from fleetlog.agents.executors.cli_stream import Bad, Good, Said, Window
from fleetlog.schemas.events import Usage

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
RESET = int((NOW + timedelta(hours=3)).timestamp())
MODEL = "claude-opus-5-5"
PRICES = {"*opus*": (4.0, 20.0, 5.0, 0.4)}
INIT = {"type": "system", "subtype": "init", "session_id": "s1", "model": MODEL}
DONE = {"type": "result", "subtype": "success", "is_error": False, "result": "four"}


def fed(*lines: dict[str, Any] | str, is_resumed: bool = False) -> ClaudeStream:
    stream = ClaudeStream(PRICES, is_resumed=is_resumed)
    for line in lines:
        stream.feed((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return stream


def assistant(*content: dict[str, Any], message_id: str = "m1", **fields: Any) -> dict[str, Any]:
    message = {"id": message_id, "model": MODEL, "content": list(content)}
    message["usage"] = {"input_tokens": 100, "output_tokens": 2, "cache_read_input_tokens": 1000}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None, **fields}


def tool(tool_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": tool_id, "name": "Bash", "input": {"command": "make"}}


def answered(tool_id: str) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": tool_id, "content": "ok", "is_error": False}
    return {"type": "user", "message": {"role": "user", "content": [block]}}


def refused(error: str | None, status: int | None, text: str, **more: Any) -> list[dict[str, Any]]:
    message = {"id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": text}]}
    said = {"type": "assistant", "message": message, "error": error, "api_error_status": status}
    result = {**DONE, "is_error": True, "result": text, "api_error_status": status}
    return [INIT, said | more, result]


def test_success_is_a_result_that_says_so_and_code_0() -> None:
    assert fed(INIT, DONE).verdict(0, "", NOW) == Good("four")
    assert isinstance(fed(INIT, DONE).verdict(1, "", NOW), Bad)
    assert isinstance(fed(INIT, {**DONE, "is_error": True}).verdict(0, "", NOW), Bad)
    assert isinstance(fed(INIT, {**DONE, "subtype": "error_max_turns"}).verdict(0, "", NOW), Bad)
    assert isinstance(fed(INIT).verdict(0, "", NOW), Bad)


def test_a_structured_answer_is_the_result() -> None:
    stream = fed(INIT, {**DONE, "structured_output": {"n": 4}})
    assert stream.verdict(0, "", NOW) == Good({"n": 4})


@pytest.mark.parametrize(
    ("lines", "code", "kind", "is_permanent"),
    [
        (refused("authentication_failed", None, "Not logged in · Please run /login"), 1, "auth", False),
        (refused("authentication_failed", 401, "Invalid API key"), 1, "auth", False),
        (refused("rate_limit", 429, "API Error: Request rejected (429)"), 1, "throttled", False),
        (refused("server_error", 529, "API Error: 529 Overloaded."), 1, "transient", False),
        (refused("unknown", None, "API Error: Connection error."), 1, "transient", False),
        (refused("billing_error", 400, "Credit balance is too low"), 1, "billing", False),
        (refused("model_not_found", 404, "no such model"), 1, "permanent", True),
        (refused("rate_limit", 429, "x", api_error="usage_limit_reached"), 1, "usage_limit", False),
        (refused(None, None, "You've hit your session limit · resets 4:20am (UTC)"), 1, "usage_limit", False),
        (refused(None, None, "You're out of extra usage · resets 5pm"), 1, "usage_limit", False),
        ([INIT, {**DONE, "is_error": True, "subtype": "error_max_turns"}], 1, "max_turns", True),
        ([INIT, {**DONE, "is_error": True, "subtype": "error_max_budget_usd"}], 1, "max_budget", True),
        ([INIT, {**DONE, "is_error": True, "subtype": "error_during_execution"}], 1, "error", False),
        ([INIT, {**DONE, "is_error": True, "subtype": "error_during_execution"}], 0, "crash", False),
        ([INIT, {**DONE, "is_error": True, "terminal_reason": "aborted_tools"}], 0, "crash", False),
        ([{**DONE, "is_error": True, "result": "No conversation found with: x"}], 1, "permanent", True),
        ([INIT], 143, "crash", False),
        ([INIT], -9, "crash", False),
        ([], 1, "permanent", True),
        ([], 137, "crash", False),
        ([INIT], 0, "protocol", False),
        (["all done"], 0, "protocol", False),
    ],
)  # fmt: skip
def test_what_was_wrong(lines: list[Any], code: int, kind: str, is_permanent: bool) -> None:
    verdict = fed(*lines).verdict(code, "", NOW)
    assert isinstance(verdict, Bad)
    assert (verdict.error_class, verdict.is_permanent) == (kind, is_permanent)
    assert verdict.error


def rejected(resets_at: object) -> dict[str, Any]:
    info = {"status": "rejected", "resetsAt": resets_at, "rateLimitType": "five_hour"}
    return {"type": "rate_limit_event", "rate_limit_info": info}


@pytest.mark.parametrize("resets_at", [RESET, RESET * 1000])
def test_a_used_up_allowance_says_when_it_begins_anew(resets_at: int) -> None:
    lines = refused("rate_limit", 429, "You've hit your limit")
    verdict = fed(rejected(resets_at), *lines).verdict(1, "", NOW)
    assert isinstance(verdict, Bad)
    assert (verdict.error_class, verdict.until) == ("usage_limit", NOW + timedelta(hours=3))


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("You've hit your limit · resets 6:45am (UTC)", datetime(2026, 1, 3, 6, 45, tzinfo=UTC)),
        ("You've hit your limit · resets 6:45pm (UTC)", datetime(2026, 1, 2, 18, 45, tzinfo=UTC)),
        ("hit your limit · resets 4:20pm (Europe/Warsaw)", datetime(2026, 1, 2, 15, 20, tzinfo=UTC)),
        ("hit your limit · resets 5pm (No/Where)", datetime(2026, 1, 2, 17, 0, tzinfo=UTC)),
        ("hit your limit · resets 12am (UTC)", datetime(2026, 1, 3, 0, 0, tzinfo=UTC)),
        ("Claude AI usage limit reached|1767358800", datetime(2026, 1, 2, 13, 0, tzinfo=UTC)),
        ("hit your limit · resets 25pm", None),
        ("hit your limit", None),
    ],
)  # fmt: skip
def test_the_time_of_day_in_a_message_counts_where_nothing_else_is_said(
    text: str, until: datetime | None
) -> None:
    verdict = fed(*refused(None, None, text)).verdict(1, "", NOW)
    assert isinstance(verdict, Bad)
    assert (verdict.error_class, verdict.until) == ("usage_limit", until)


def test_a_tool_is_open_until_it_answers_or_its_caller_speaks_again() -> None:
    stream = fed(INIT, assistant(tool("t1")), assistant(tool("t2")))
    assert stream.is_in_tool
    stream.feed(json.dumps(answered("t1")))
    assert stream.is_in_tool
    stream.feed(json.dumps(answered("t2")))
    assert not stream.is_in_tool
    stream.feed(json.dumps(assistant(tool("t3"), message_id="m2")))
    # What a subagent says ends nothing of the one that called it.
    stream.feed(json.dumps(assistant(message_id="m3", parent_tool_use_id="t3")))
    assert stream.is_in_tool
    stream.feed(json.dumps(assistant(message_id="m4")))
    assert not stream.is_in_tool
    stream.feed(json.dumps(assistant(tool("t5"), message_id="m5")))
    stream.feed(json.dumps(DONE))
    assert not stream.is_in_tool


def test_tokens_are_counted_once_for_each_message_and_priced_until_the_cost_is_told() -> None:
    stream = fed(INIT, assistant(tool("t1")), assistant(tool("t2")))
    first = Usage(input_tokens=1100, output_tokens=2, cost_micro_usd=840, model=MODEL)
    assert stream.usage() == first
    stream.feed(json.dumps(assistant(message_id="m2")))
    assert stream.usage() == Usage(
        input_tokens=2200, output_tokens=4, cost_micro_usd=1680, model=MODEL
    )
    used = {"inputTokens": 200, "outputTokens": 90, "cacheReadInputTokens": 2000, "costUSD": 0.0041}
    stream.feed(json.dumps({**DONE, "modelUsage": {MODEL: used}, "total_cost_usd": 0.0041}))
    told = Usage(input_tokens=2200, output_tokens=90, cost_micro_usd=4100, model=MODEL)
    assert stream.usage() == told
    stream.feed(json.dumps(assistant(message_id="m3")))
    assert stream.usage() == Usage(
        input_tokens=3300, output_tokens=92, cost_micro_usd=4940, model=MODEL
    )


def test_a_resumed_session_counts_what_this_run_has_added() -> None:
    total = {MODEL: {"inputTokens": 3000, "outputTokens": 150, "costUSD": 0.03}}
    since = {MODEL: {"inputTokens": 1000, "outputTokens": 50, "costUSD": 0.01}}
    usage = {"input_tokens": 1000, "output_tokens": 50}
    result = {**DONE, "modelUsage": total, "total_cost_usd": 0.03, "usage": usage}
    added = Usage(input_tokens=1000, output_tokens=50, cost_micro_usd=10_000, model=MODEL)
    newer = fed(INIT, {**result, "model_usage_since_last_result": since}, is_resumed=True)
    older = fed(INIT, result, is_resumed=True)
    assert newer.usage() == older.usage() == added


def test_allowances_are_the_last_word_on_each_window() -> None:
    windows = {"five_hour": {"utilization": 0.93, "resetsAt": RESET}, "x": {"utilization": "much"}}
    info = {"status": "allowed", "rateLimitType": "five_hour", "unifiedWindows": windows}
    line = {"type": "rate_limit_event", "rate_limit_info": info}
    until = NOW + timedelta(hours=3)
    assert list(fed(line).windows) == [Window("five_hour", 0.93, until)]
    assert list(fed(line, rejected(RESET)).windows) == [Window("five_hour", 1.0, until)]


def test_what_is_shown() -> None:
    stream = ClaudeStream(PRICES)
    shown = [
        said
        for line in (
            json.dumps(INIT),
            json.dumps(assistant({"type": "text", "text": "let me see"}, tool("t1"))),
            json.dumps(assistant({"type": "text", "text": "deep"}, parent_tool_use_id="t1")),
            json.dumps({"type": "tool_progress", "tool_use_id": "t1"}),
            json.dumps({"type": "of_tomorrow"}),
            "no JSON",
            json.dumps(DONE),
        )
        for said in stream.feed(line)
    ]
    assert shown == [
        Said("log", f"session s1, model {MODEL}\n"),
        Said("stdout", "let me see\n"),
        Said("log", 'Bash {"command":"make"}\n'),
        Said("log", "subagent: deep\n"),
        Said("log", '{"type": "of_tomorrow"}'),
        Said("stdout", "no JSON"),
        Said("stdout", "four\n"),
    ]


def test_codes_of_terminals_and_the_order_of_keys_do_not_matter() -> None:
    stream = fed("\x1b[?1004l\x1b]0;title\x07" + json.dumps(INIT))
    assert stream.session_id == "s1"
    shuffled = '{"result": "four", "is_error": false, "session_id": "s2", "subtype": "success",'
    shuffled += ' "type": "result"}'
    assert fed(INIT, shuffled).verdict(0, "", NOW) == Good("four")
    assert fed(INIT, shuffled).session_id == "s2"


def test_startup_is_the_first_word_about_it_and_not_the_first_line() -> None:
    assert not fed({"type": "system", "subtype": "ui_invalidate"}).has_started
    assert fed(INIT).has_started
