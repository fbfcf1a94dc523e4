#!/usr/bin/env python3
"""A stand-in for the Claude CLI: it speaks as `claude -p --output-format stream-json --verbose` does.

For tests and the demo; needs only Python. What it plays is the value of MOCK_SCENARIO, or a word of its
prompt such as `[mock:limit]`; without either it answers. The scenarios are the functions called `play_…`.

    CLAUDE_CLI_PATH=examples/mock_claude.py fleetlog up
    fleetlog run --executor claude --prompt "hello" --wait
"""
# ruff: noqa: T201 - what it prints is what it is for

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from types import FrameType
from typing import Any, NoReturn

MODEL = "claude-opus-5-5"
CALL_USD = 0.005
CALL_TOKENS = {"input_tokens": 1000, "output_tokens": 50}
DELAY_S = float(os.environ.get("MOCK_DELAY", "0.1"))


class Mock:
    """One conversation."""

    def __init__(self, argv: list[str], prompt: str) -> None:
        self.argv = argv
        self.prompt = prompt
        self.session_id = option(argv, "--resume") or option(argv, "--session-id") or new_id()
        self.calls = 0
        self.is_waiting = "streaming"

    def emit(self, kind: str, **fields: Any) -> None:
        """One line, its keys in no order, as the real one has them."""
        line = {"type": kind, "session_id": self.session_id, "uuid": new_id(), **fields}
        keys = list(line)
        random.shuffle(keys)
        print(json.dumps({key: line[key] for key in keys}), flush=True)

    def begin(self) -> None:
        """What comes first; another line may come before it."""
        self.emit("system", subtype="ui_invalidate")
        self.emit("system", subtype="init", model=MODEL, cwd=str(os.getcwd()), tools=["Bash"])  # noqa: PTH109 - no Path needed

    def call(self, *content: dict[str, Any]) -> None:
        """One answer of the API, a line for each block."""
        self.calls += 1
        message_id = f"msg_{new_id()}"
        for block in content:
            message = {"id": message_id, "role": "assistant", "model": MODEL, "content": [block]}
            message |= {"stop_reason": None, "usage": {**CALL_TOKENS, "output_tokens": 1}}
            self.emit("assistant", message=message, parent_tool_use_id=None)

    def answer_tool(self, tool: str, text: str) -> None:
        """What a tool answered."""
        block = {"type": "tool_result", "tool_use_id": tool, "content": text, "is_error": False}
        self.emit("user", message={"role": "user", "content": [block]}, parent_tool_use_id=None)

    def result(self, **fields: Any) -> None:
        """The last line."""
        used = {
            "inputTokens": CALL_TOKENS["input_tokens"] * self.calls,
            "outputTokens": CALL_TOKENS["output_tokens"] * self.calls,
            "costUSD": CALL_USD * self.calls,
        }
        models = {MODEL: used} if self.calls else {}
        self.emit(
            "result",
            num_turns=self.calls,
            total_cost_usd=CALL_USD * self.calls,
            usage={name: count * self.calls for name, count in CALL_TOKENS.items()},
            modelUsage=models,
            model_usage_since_last_result=models,
            permission_denials=[],
            **fields,
        )

    def succeed(self, text: str) -> None:
        """It has done what it was asked."""
        self.call({"type": "text", "text": text})
        self.result(subtype="success", is_error=False, result=text, terminal_reason="completed")

    def api_error(self, text: str, error: str, status: int | None, **more: Any) -> int:
        """The API refused; the CLI says it as if it were an answer."""
        message = {"id": new_id(), "role": "assistant", "model": "<synthetic>"}
        message |= {"content": [{"type": "text", "text": text}], "usage": {"input_tokens": 0}}
        facts = {"error": error, "api_error_status": status, "is_api_error_message": True, **more}
        self.emit("assistant", message=message, parent_tool_use_id=None, **facts)
        self.result(
            subtype="success",
            is_error=True,
            result=text,
            api_error_status=status,
            terminal_reason="api_error",
        )
        return 1

    def on_sigint(self, _number: int, _frame: FrameType | None) -> NoReturn:
        """The real one ends with code 0."""
        text = {"type": "text", "text": "[Request interrupted by user]"}
        self.emit("user", message={"role": "user", "content": [text]}, parent_tool_use_id=None)
        self.result(
            subtype="error_during_execution",
            is_error=True,
            errors=[],
            terminal_reason=f"aborted_{self.is_waiting}",
        )
        os._exit(0)


def play_ok(mock: Mock) -> int:
    """Says how long its prompt was."""
    mock.begin()
    mock.emit("rate_limit_event", rate_limit_info=window("allowed"))
    mock.succeed(f"answer to {len(mock.prompt)} characters")
    return 0


def play_split(mock: Mock) -> int:
    """Splits a goal into ten parts, each the work of a second."""
    mock.begin()
    parts = [
        f"Part {number} of ten, about a second of work. [mock:work]" for number in range(1, 11)
    ]
    mock.succeed(f"Here they are:\n{json.dumps(parts)}")
    return 0


def play_work(mock: Mock) -> int:
    """Works for a second."""
    mock.begin()
    time.sleep(1.0)
    mock.succeed("done")
    return 0


def play_echo(mock: Mock) -> int:
    """Says what it was given: arguments, environment, the first of its prompt."""
    mock.begin()
    seen = {"argv": mock.argv, "env": dict(os.environ), "prompt": mock.prompt[:1000]}
    mock.succeed(json.dumps(seen))
    return 0


def play_ask(mock: Mock) -> int:
    """Asks which branch, unless its prompt tells."""
    mock.begin()
    if "The answer: " in mock.prompt:
        mock.succeed(f"told {mock.prompt.rpartition('The answer: ')[2]}")
        return 0
    question = {"type": "need_input", "question": "Which branch?", "choices": ["main", "dev"]}
    mock.succeed(f"I can't go on.\n```json\n{json.dumps(question)}\n```\n")
    return 0


def play_tool(mock: Mock) -> int:
    """Calls a tool that takes a while and is silent meanwhile."""
    mock.begin()
    block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "make"}}
    mock.call({"type": "text", "text": "let me see"}, block)
    time.sleep(DELAY_S)
    mock.answer_tool("toolu_1", "done")
    mock.succeed("it works")
    return 0


def play_auth(mock: Mock) -> int:
    """The API refuses the key."""
    mock.begin()
    retry = {"attempt": 1, "max_retries": 5, "retry_delay_ms": 522, "error_status": 401}
    mock.emit("system", subtype="api_retry", error="authentication_failed", **retry)
    return mock.api_error(
        "Invalid API key · Fix external API key",
        "authentication_failed",
        401,
    )


def play_limit(mock: Mock) -> int:
    """The allowance is used up; MOCK_DELAY seconds later it begins anew, and a further attempt succeeds."""
    if os.environ.get("FLEETLOG_ATTEMPT", "1") != "1":
        return play_ok(mock)
    mock.begin()
    mock.call({"type": "text", "text": "half of it"})
    mock.emit("rate_limit_event", rate_limit_info=window("rejected"))
    return mock.api_error(
        "You've hit your limit · resets 6:45am (UTC)",
        "rate_limit",
        429,
        api_error="usage_limit_reached",
    )


def play_throttled(mock: Mock) -> int:
    """Too many requests."""
    mock.begin()
    return mock.api_error("API Error: Request rejected (429) · slow down", "rate_limit", 429)


def play_overloaded(mock: Mock) -> int:
    """The API has too much to do, at the first attempt."""
    if os.environ.get("FLEETLOG_ATTEMPT", "1") != "1":
        return play_ok(mock)
    mock.begin()
    return mock.api_error("API Error: 529 Overloaded.", "server_error", 529)


def play_billing(mock: Mock) -> int:
    """Nothing is left to pay with."""
    mock.begin()
    return mock.api_error("Credit balance is too low", "billing_error", 400)


def play_hang_at_start(_mock: Mock) -> int:
    """Never says anything."""
    time.sleep(3600)
    return 0


def play_hang(mock: Mock) -> int:
    """Starts, makes a call, and then says nothing more."""
    mock.begin()
    mock.call({"type": "text", "text": "working"})
    time.sleep(3600)
    return 0


def play_hang_after_result(mock: Mock) -> int:
    """Does its work and does not end, whoever asks."""
    refuse_signals()
    play_ok(mock)
    time.sleep(3600)
    return 0


def play_slow(mock: Mock) -> int:
    """Many calls, with MOCK_DELAY seconds between them."""
    mock.begin()
    for step in range(20):
        mock.call({"type": "text", "text": f"step {step}"})
        time.sleep(DELAY_S)
    mock.succeed("slow but sure")
    return 0


def play_huge_line(mock: Mock) -> int:
    """A tool's answer of 5 MB in one line."""
    mock.begin()
    mock.call({"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "big"}})
    mock.answer_tool("toolu_1", "x" * 5_000_000)
    mock.succeed("read it")
    return 0


def play_giant(mock: Mock) -> int:
    """A result that is larger than any may be."""
    mock.begin()
    mock.succeed("x" * 9_000_000)
    return 0


def play_garbage(mock: Mock) -> int:
    """Much that is no JSON, or is of a kind that nobody knows, around a result."""
    out = sys.stdout.buffer
    out.write(b'\x1b[?1004l\xff\xfe not text\n{"type": "result"\n{"type": 7}\n[]\n{}\nnull\n')
    out.write(b'{"type": "result", "is_error": "no"}\n\x00\n' + b"{" * 2000 + b"\n")
    out.flush()
    mock.begin()
    mock.emit("something_new", subtype=["of", "tomorrow"], message={"content": 3})
    mock.emit("assistant", message="not an object")
    mock.emit("user", message={"content": "a text"})
    mock.emit("rate_limit_event", rate_limit_info={"resetsAt": "soon", "utilization": {}})
    mock.succeed("in spite of it")
    return 0


def play_babble(_mock: Mock) -> int:
    """Ends well, they say, but without a result."""
    print("all done!", flush=True)
    return 0


def play_lie(mock: Mock) -> int:
    """Says success and ends with another code."""
    play_ok(mock)
    return 1


def play_sigint(mock: Mock) -> int:
    """Somebody else sends it SIGINT."""
    mock.begin()
    mock.call({"type": "text", "text": "working"})
    os.kill(os.getpid(), signal.SIGINT)
    return 1


def play_crash(mock: Mock) -> int:
    """Dies in the middle, at the first attempt."""
    if os.environ.get("FLEETLOG_ATTEMPT", "1") != "1":
        return play_ok(mock)
    mock.begin()
    mock.call({"type": "text", "text": "working"})
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def play_max_turns(mock: Mock) -> int:
    """Takes all its turns."""
    mock.begin()
    mock.call({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}})
    mock.answer_tool("toolu_1", "hello")
    errors = ["Reached maximum number of turns (1)"]
    mock.result(
        subtype="error_max_turns", is_error=True, errors=errors, terminal_reason="max_turns"
    )
    return 1


def play_budget(mock: Mock) -> int:
    """Costs more than it may."""
    mock.begin()
    mock.call({"type": "text", "text": "dear"})
    errors = [f"Reached maximum budget (${option(mock.argv, '--max-budget-usd')})"]
    mock.result(
        subtype="error_max_budget_usd",
        is_error=True,
        errors=errors,
        terminal_reason="budget_exhausted",
    )
    return 1


def play_bad_flag(_mock: Mock) -> int:
    """Does not know an option."""
    print("error: unknown option '--no-such-option'", file=sys.stderr)
    return 1


def play_orphan(mock: Mock) -> int:
    """Leaves a child behind that has a session of its own, as the real one's Bash tool does."""
    if "deaf" in mock.prompt:
        refuse_signals()
    mock.begin()
    block = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "sleep"}}
    mock.call(block)
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    mock.is_waiting = "tools"
    mock.call({"type": "text", "text": f"child {child.pid}"})
    if "and stay" in mock.prompt:
        time.sleep(3600)
    mock.succeed(str(child.pid))
    return 0


def play_deaf(mock: Mock) -> int:
    """Takes no signal that can be refused."""
    refuse_signals()
    mock.begin()
    mock.call({"type": "text", "text": "working"})
    time.sleep(3600)
    return 0


def refuse_signals() -> None:
    """From now on only SIGKILL ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def window(status: str) -> dict[str, Any]:
    """What is said about the allowances."""
    resets_at = int(time.time() + DELAY_S) + 1
    windows = {"five_hour": {"utilization": 0.25, "resetsAt": resets_at}}
    windows["seven_day"] = {"utilization": 0.5, "resetsAt": resets_at * 1000}
    return {
        "status": status,
        "resetsAt": resets_at,
        "rateLimitType": "five_hour",
        "unifiedWindows": windows if status == "allowed" else {},
    }


def option(argv: list[str], name: str) -> str | None:
    """An option's value."""
    return argv[argv.index(name) + 1] if name in argv[:-1] else None


def new_id() -> str:
    """A new one."""
    return str(uuid.uuid4())


def check(argv: list[str], prompt: str) -> str | None:
    """What the real one would refuse at once."""
    if option(argv, "--output-format") == "stream-json" and "--verbose" not in argv:
        return "Error: When using --print, --output-format=stream-json requires --verbose"
    session_id = option(argv, "--session-id")
    if session_id is not None and not re.fullmatch(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", session_id
    ):
        return "Error: Invalid session ID. Must be a valid UUID."
    if option(argv, "--resume") and "MOCK_NO_SESSIONS" in os.environ:
        return f"No conversation found with session ID: {option(argv, '--resume')}"
    if not prompt:
        return "Error: Input must be provided either through stdin or as a prompt argument"
    return None


def auth_status() -> int:
    """`claude auth status`."""
    is_in = os.environ.get("MOCK_SCENARIO") != "logged_out"
    has_key = "ANTHROPIC_API_KEY" in os.environ
    method = ("api_key" if has_key else "oauth_token") if is_in or has_key else "none"
    print(json.dumps({"loggedIn": is_in or has_key, "authMethod": method}, indent=2))
    return 0 if is_in or has_key else 1


def main(argv: list[str]) -> int:
    """The program; answers its exit code."""
    if argv == ["--version"]:
        print("2.1.329 (Claude Code)")
        return 0
    if argv == ["auth", "status"]:
        return auth_status()
    prompt = sys.stdin.read()
    if (refusal := check(argv, prompt)) is not None:
        print(refusal, file=sys.stderr)
        return 1
    mock = Mock(argv, prompt)
    signal.signal(signal.SIGINT, mock.on_sigint)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    found = re.search(r"\[mock:(\w+)\]", prompt)
    scenario = os.environ.get("MOCK_SCENARIO") or (found[1] if found else "ok")
    play = globals().get(f"play_{scenario}", play_ok)
    code: int = play(mock)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
