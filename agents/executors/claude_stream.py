"""The stream of `claude -p --output-format stream-json`: one JSON object a line, its keys in any order. Pure.

Lines of an unknown type are shown and change nothing; whatever else a line holds, reading it never raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from fleetlog.agents.executors.cli_stream import (
    Bad,
    Good,
    Prices,
    Said,
    Tokens,
    Verdict,
    Window,
    count_of,
    estimate_micro_usd,
    fields_of,
    micro_usd_of,
    name_of,
    object_of,
    objects_of,
    shown,
    text_of,
    usage_of,
    without_result,
)
from fleetlog.agents.executors.cli_troubles import instant_of, reset_in, trouble_in
from fleetlog.schemas.events import ErrorClass, Usage

_SYNTHETIC: Final = "<synthetic>"
_WINDOWS_MAX: Final = 16
_QUIET: Final = {"stream_event", "tool_progress", "control_response", "keep_alive"}

_BY_ERROR: Final[dict[str, ErrorClass]] = {
    "authentication_failed": "auth",
    "oauth_org_not_allowed": "auth",
    "account_on_hold": "auth",
    "verification_required": "auth",
    "cloud_credential_error": "auth",
    "billing_error": "billing",
    "rate_limit": "throttled",
    "overloaded": "transient",
    "server_error": "transient",
    "invalid_request": "permanent",
    "model_not_found": "permanent",
}
_BY_STATUS: Final[dict[int, ErrorClass]] = {
    401: "auth",
    402: "billing",
    403: "auth",
    408: "transient",
    429: "throttled",
}
_BY_SUBTYPE: Final[dict[str, ErrorClass]] = {
    "error_max_turns": "max_turns",
    "error_max_budget_usd": "max_budget",
}
_PERMANENT: Final = {"permanent", "max_turns", "max_budget"}


class ClaudeStream:
    """See `CliStream`. Also read: what others print in the shape of it (qwen)."""

    def __init__(self, prices: Prices, *, is_resumed: bool = False) -> None:
        self._prices = prices
        self._is_resumed = is_resumed
        self._tools: dict[str, tuple[str | None, str | None]] = {}
        self._messages: dict[str, tuple[str, Tokens]] = {}
        self._settled: dict[str, Tokens] = {}
        self._cost_micro_usd = 0
        self._windows: dict[str, Window] = {}
        self._rejected_until: datetime | None = None
        self._is_rejected = False
        self._api_error: tuple[str, int, str] = ("", 0, "")
        self._result: dict[str, object] = {}
        self._last_text = ""
        self._has_said_anything = False
        self.has_started = False
        self.has_result = False
        self.session_id: str | None = None

    @property
    def is_in_tool(self) -> bool:
        """A tool was called and has not answered."""
        return bool(self._tools)

    @property
    def windows(self) -> Sequence[Window]:
        """The last word on each allowance."""
        return tuple(self._windows.values())

    def feed(self, line: str) -> Sequence[Said]:
        """See `CliStream`."""
        if not line.strip():
            return ()
        fields = fields_of(line)
        if fields is None:
            return (Said("stdout", line),)
        self._has_said_anything = True
        self.session_id = name_of(fields.get("session_id")) or self.session_id
        kind = text_of(fields.get("type"))
        match kind:
            case "system":
                return self._system(fields)
            case "assistant":
                return self._assistant(fields)
            case "user":
                return self._user(fields)
            case "rate_limit_event":
                return self._rate_limit(object_of(fields.get("rate_limit_info")))
            case "result":
                return self._end(fields)
        return () if kind in _QUIET else (Said("log", line),)

    def usage(self) -> Usage | None:
        """See `CliStream`: what results said, and beyond them what the messages so far say."""
        by_model = {name: _copy(tokens) for name, tokens in self._settled.items()}
        for model, tokens in self._messages.values():
            by_model.setdefault(model, Tokens()).add(tokens)
        cost = self._cost_micro_usd
        if cost:
            cost += sum(estimate_micro_usd(*each, self._prices) for each in self._messages.values())
        return usage_of(by_model, self._prices, cost)

    def verdict(self, exit_code: int, stderr: str, now: datetime) -> Verdict:
        """See `CliStream`. Success is a result that says so and exit code 0; neither alone is enough."""
        if not self.has_result:
            return without_result(exit_code, stderr, now, has_said_anything=self._has_said_anything)
        result = self._result
        if result.get("is_error") is False and result.get("subtype") == "success":
            if exit_code == 0:
                structured = result.get("structured_output")
                return Good(text_of(result.get("result")) if structured is None else structured)
            text = f"its result says success, but it ended with code {exit_code}\n{stderr.strip()}"
            return Bad("error", text.strip())
        return self._bad(exit_code, stderr, now)

    def _bad(self, exit_code: int, stderr: str, now: datetime) -> Bad:
        text = self._error_text(stderr)
        subtype = text_of(self._result.get("subtype"))
        kind = _BY_SUBTYPE.get(subtype) or self._api_trouble(text)
        is_aborted = text_of(self._result.get("terminal_reason")).startswith("aborted")
        if is_aborted or (exit_code == 0 and kind is None):
            # SIGINT ends it with code 0 and a result that is none.
            return Bad("crash", f"the agent CLI was interrupted\n{text}".strip())
        if "No conversation found" in text:
            kind = "permanent"
        kind = kind or "error"
        until = (self._rejected_until or reset_in(text, now)) if kind == "usage_limit" else None
        return Bad(kind, text, is_permanent=kind in _PERMANENT, until=until)

    def _error_text(self, stderr: str) -> str:
        errors = self._result.get("errors")
        said = [text_of(each) for each in errors] if isinstance(errors, list) else []
        parts = [text_of(self._result.get("result")), *said]
        subtype = text_of(self._result.get("subtype"))
        return "\n".join(filter(None, parts)) or stderr.strip() or f"it ended with {subtype}"

    def _api_trouble(self, text: str) -> ErrorClass | None:
        """What the API said, most telling first: its own word, its status, the text."""
        error, status, detail = self._api_error
        status = count_of(self._result.get("api_error_status")) or status
        if detail == "usage_limit_reached" or (
            self._is_rejected and (error == "rate_limit" or status == 429)
        ):
            return "usage_limit"
        by_text = trouble_in(text)
        if by_text in ("usage_limit", "billing"):
            return by_text
        if status >= 500:
            return "transient"
        return _BY_ERROR.get(error) or _BY_STATUS.get(status) or by_text

    def _system(self, fields: dict[str, object]) -> Sequence[Said]:
        match fields.get("subtype"):
            case "init":
                self.has_started = True
                model = text_of(fields.get("model"))
                return (Said("log", f"session {self.session_id}, model {model}\n"),)
            case "api_retry":
                what = fields.get("error_status") or text_of(fields.get("error"))
                tries = f"{fields.get('attempt')} of {fields.get('max_retries')}"
                return (Said("log", f"warning: API error {shown(what)}, retry {shown(tries)}\n"),)
            case _:
                return ()

    def _assistant(self, fields: dict[str, object]) -> Sequence[Said]:
        self.has_started = True
        message = object_of(fields.get("message"))
        message_id = name_of(message.get("id")) or ""
        parent = name_of(fields.get("parent_tool_use_id"))
        if fields.get("error") is not None:
            self._api_error = (
                text_of(fields["error"]),
                count_of(fields.get("api_error_status")),
                text_of(fields.get("api_error")),
            )
        self._count(message_id, message)
        # A new message of the same speaker: all that its earlier ones called has answered, seen or not.
        self._tools = {
            tool: (speaker, opened_by)
            for tool, (speaker, opened_by) in self._tools.items()
            if speaker != parent or opened_by == message_id
        }
        said: list[Said] = []
        for block in objects_of(message.get("content")):
            said += self._block(block, parent, message_id)
        return said

    def _block(
        self, block: dict[str, object], parent: str | None, message_id: str
    ) -> Sequence[Said]:
        match block.get("type"):
            case "text" if text := text_of(block.get("text")):
                if parent is not None:
                    return (Said("log", f"subagent: {shown(text)}\n"),)
                self._last_text = text
                return (Said("stdout", text if text.endswith("\n") else f"{text}\n"),)
            case "tool_use":
                if (tool := name_of(block.get("id"))) is not None:
                    self._tools[tool] = (parent, message_id)
                name = text_of(block.get("name"))
                return (Said("log", f"{shown(name)} {shown(block.get('input'))}\n"),)
            case _:
                return ()

    def _user(self, fields: dict[str, object]) -> Sequence[Said]:
        said: list[Said] = []
        for block in objects_of(object_of(fields.get("message")).get("content")):
            if block.get("type") == "tool_result":
                self._tools.pop(text_of(block.get("tool_use_id")), None)
                if block.get("is_error") is True:
                    said.append(Said("log", f"tool failed: {shown(block.get('content'))}\n"))
        return said

    def _rate_limit(self, info: dict[str, object]) -> Sequence[Said]:
        resets_at = instant_of(info.get("resetsAt"))
        status = text_of(info.get("status"))
        kind = name_of(info.get("rateLimitType")) or "unknown"
        if status == "rejected":
            self._is_rejected = True
            self._rejected_until = resets_at
        else:
            self._is_rejected = False
        self._note_window(kind, info.get("utilization"), resets_at, is_rejected=self._is_rejected)
        for name, window in object_of(info.get("unifiedWindows")).items():
            each = object_of(window)
            self._note_window(name, each.get("utilization"), instant_of(each.get("resetsAt")))
        if status in ("allowed", ""):
            return ()
        until = f", resets at {resets_at.isoformat()}" if resets_at else ""
        return (Said("log", f"warning: limit {kind}: {shown(status)}{until}\n"),)

    def _note_window(
        self,
        name: str,
        utilization: object,
        resets_at: datetime | None,
        *,
        is_rejected: bool = False,
    ) -> None:
        if isinstance(utilization, bool) or not isinstance(utilization, int | float):
            if not is_rejected:
                return
            utilization = 1.0
        if 0 <= utilization < 1e6 and (name in self._windows or len(self._windows) < _WINDOWS_MAX):
            self._windows[name] = Window(name[:100], float(utilization), resets_at)

    def _count(self, message_id: str, message: dict[str, object]) -> None:
        """Notes a message's tokens. It comes in several lines, and the last one says the most."""
        model = name_of(message.get("model")) or ""
        usage = object_of(message.get("usage"))
        if model == _SYNTHETIC or not usage:
            return
        self._messages[message_id] = (model, _message_tokens(usage))

    def _end(self, fields: dict[str, object]) -> Sequence[Said]:
        self.has_result = True
        self._result = fields
        self._tools.clear()
        self._settle(fields)
        text = text_of(fields.get("result"))
        if fields.get("is_error") is False and text and text.strip() != self._last_text.strip():
            return (Said("stdout", f"{text}\n"),)
        return ()

    def _settle(self, result: dict[str, object]) -> None:
        """Puts what the result says in place of what the messages said.

        The totals of a resumed session go on where they were; newer releases tell what this run has added.
        """
        since = result.get("model_usage_since_last_result")
        models = object_of(since if isinstance(since, dict) else result.get("modelUsage"))
        said = {name: _model_tokens(object_of(each)) for name, each in models.items()}
        if not any(tokens.count for tokens in said.values()):
            return
        if isinstance(since, dict):
            for name, tokens in said.items():
                self._settled.setdefault(name, Tokens()).add(tokens)
            self._cost_micro_usd += sum(tokens.cost_micro_usd for tokens in said.values())
        else:
            self._settled = said
            self._cost_micro_usd = micro_usd_of(result.get("total_cost_usd"))
            if self._is_resumed:
                self._take_share(object_of(result.get("usage")))
        self._messages.clear()

    def _take_share(self, usage: dict[str, object]) -> None:
        """Of the totals of a resumed session, this run's part by its own tokens."""
        own = _message_tokens(usage)
        total = sum(tokens.count for tokens in self._settled.values())
        if 0 < own.count < total:
            model = max(self._settled, key=lambda name: self._settled[name].count)
            self._settled = {model: own}
            self._cost_micro_usd = round(self._cost_micro_usd * own.count / total)


def _message_tokens(usage: dict[str, object]) -> Tokens:
    return Tokens(
        input=count_of(usage.get("input_tokens")),
        output=count_of(usage.get("output_tokens")),
        cache_written=count_of(usage.get("cache_creation_input_tokens")),
        cache_read=count_of(usage.get("cache_read_input_tokens")),
    )


def _model_tokens(fields: dict[str, object]) -> Tokens:
    return Tokens(
        input=count_of(fields.get("inputTokens")),
        output=count_of(fields.get("outputTokens")),
        cache_written=count_of(fields.get("cacheCreationInputTokens")),
        cache_read=count_of(fields.get("cacheReadInputTokens")),
        cost_micro_usd=micro_usd_of(fields.get("costUSD")),
    )


def _copy(tokens: Tokens) -> Tokens:
    copy = Tokens()
    copy.add(tokens)
    return copy
