"""Whatever an agent CLI prints, and however it comes cut, reading it never fails and means the same."""

from __future__ import annotations

import codecs
import itertools
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetlog.agents.executors.cli_stream import Bad, CliStream, Good
from fleetlog.agents.executors.lines import LineSplitter
from fleetlog.agents.executors.profiles import STREAMS, Parser

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PRICES = {"*": (1.0, 2.0, 3.0, 4.0)}
KEYS = (
    *("type", "subtype", "session_id", "message", "content", "id", "usage", "model", "is_error"),
    *("result", "errors", "error", "api_error", "api_error_status", "rate_limit_info", "resetsAt"),
    *("utilization", "unifiedWindows", "modelUsage", "model_usage_since_last_result", "costUSD"),
    *("input_tokens", "inputTokens", "total_cost_usd", "item", "part", "state", "tokens", "stats"),
    *("parent_tool_use_id", "tool_use_id", "structured_output", "terminal_reason", "thread_id"),
)
WORDS = (
    *("system", "init", "assistant", "user", "result", "success", "rate_limit_event", "rejected"),
    *("text", "tool_use", "tool_result", "api_retry", "error_max_turns", "item.completed"),
    *("agent_message", "turn.completed", "turn.failed", "step_finish", "message", "error"),
    *(
        "five_hour",
        "usage_limit_reached",
        "resets 5pm (Europe/../x)",
        "limit reached|9999999999999",
    ),
)

scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    *(st.sampled_from(WORDS), st.sampled_from([-1, 0, 1e308, 2**63, 1e12, 429, 401, 529])),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)
lines = st.one_of(
    st.dictionaries(st.sampled_from(KEYS), values, max_size=8).map(json.dumps),
    values.map(json.dumps),
    st.text(max_size=30),
)


def read_all(parser: Parser, data: bytes, cuts: list[int]) -> CliStream:
    """As the executor reads: bytes in pieces, decoded, split into lines."""
    stream = STREAMS[parser](PRICES, is_resumed=False)
    splitter, decoder = LineSplitter(), codecs.getincrementaldecoder("utf-8")("replace")
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        for piece in splitter.feed(decoder.decode(data[start:end])):
            stream.feed(piece)
    for piece in (*splitter.feed(decoder.decode(b"", final=True)), splitter.end()):
        stream.feed(piece)
    return stream


def state(stream: CliStream, code: int) -> Any:
    verdict = stream.verdict(code, "", NOW)
    assert isinstance(verdict, Good | Bad)
    if isinstance(verdict, Good):
        msgspec.json.encode(verdict.result)
    usage = stream.usage()
    msgspec.json.encode((usage, stream.session_id))
    assert usage is None or usage.cost_micro_usd >= 0
    return repr(verdict), usage, stream.session_id, stream.is_in_tool, tuple(stream.windows)


@pytest.mark.parametrize("parser", STREAMS)
@given(
    said=st.lists(lines, max_size=8),
    code=st.integers(-15, 255),
    cuts=st.lists(st.integers(0), max_size=6),
)
def test_any_lines_in_any_pieces_are_read_and_mean_the_same(
    parser: Parser, said: list[str], code: int, cuts: list[int]
) -> None:
    data = "\n".join(said).encode("utf-8", "surrogatepass")
    whole = state(read_all(parser, data, []), code)
    assert state(read_all(parser, data, cuts), code) == whole


@pytest.mark.parametrize("parser", STREAMS)
@given(data=st.binary(max_size=300), code=st.integers(-15, 255), stderr=st.text(max_size=60))
def test_garbage_is_never_taken_for_success_but_where_text_is_the_answer(
    parser: Parser, data: bytes, code: int, stderr: str
) -> None:
    stream = read_all(parser, data, [])
    verdict = stream.verdict(code, stderr, NOW)
    assert isinstance(verdict, Bad) or (parser == "text" and code == 0)


@given(
    noise=st.lists(st.one_of(lines, st.just('{"type": "of_tomorrow"}')), max_size=6),
    at=st.integers(0, 6),
)
def test_noise_around_a_result_changes_nothing(noise: list[str], at: int) -> None:
    quiet = [line for line in noise if '"result"' not in line]
    done = {"subtype": "success", "result": "four", "is_error": False, "type": "result"}
    said = [*quiet[:at], json.dumps(done), *quiet[at:]]
    stream = read_all("claude", "\n".join(said).encode("utf-8", "surrogatepass"), [])
    assert stream.verdict(0, "", NOW) == Good("four")
