"""The streams of other agent CLIs: codex, gemini, opencode, and any that only prints text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from fleetlog.agents.executors.cli_stream import (
    Bad,
    Good,
    Prices,
    Said,
    Tokens,
    Verdict,
    Window,
    count_of,
    fields_of,
    micro_usd_of,
    name_of,
    object_of,
    shown,
    text_of,
    usage_of,
    without_result,
)
from fleetlog.agents.executors.cli_troubles import reset_in, trouble_in
from fleetlog.agents.executors.lines import Tail
from fleetlog.schemas.events import Usage
from fleetlog.schemas.objects import INLINE_MAX_BYTES


class _Stream:
    """What these have in common; each reads its own kinds of lines in `_read`."""

    def __init__(self, prices: Prices, *, is_resumed: bool = False) -> None:
        del is_resumed  # these tell what a run used, never a session's total
        self._prices = prices
        self._tools: set[str] = set()
        self._tokens = Tokens()
        self._model = ""
        self._answer = ""
        self._error = ""
        self._has_said_anything = False
        self.has_started = False
        self.has_result = False
        self.session_id: str | None = None
        self.windows: Sequence[Window] = ()

    @property
    def is_in_tool(self) -> bool:
        """A tool was called and has not answered."""
        return bool(self._tools)

    def feed(self, line: str) -> Sequence[Said]:
        """See `CliStream`."""
        if not line.strip():
            return ()
        fields = fields_of(line)
        if fields is None:
            return (Said("stdout", line),)
        self._has_said_anything = self.has_started = True
        said = self._read(text_of(fields.get("type")), fields)
        return (Said("log", line),) if said is None else said

    def usage(self) -> Usage | None:
        """See `CliStream`."""
        return usage_of({self._model: self._tokens}, self._prices, self._tokens.cost_micro_usd)

    def verdict(self, exit_code: int, stderr: str, now: datetime) -> Verdict:
        """See `CliStream`."""
        if exit_code == 0 and self.has_result and not self._error:
            return Good(self._answer)
        if not self._error:
            return without_result(exit_code, stderr, now, has_said_anything=self._has_said_anything)
        text = f"{self._error}\n{stderr.strip()}".strip()
        kind = trouble_in(self._error) or trouble_in(stderr) or "error"
        return Bad(kind, text, until=reset_in(text, now) if kind == "usage_limit" else None)

    def _read(self, kind: str, fields: dict[str, object]) -> Sequence[Said] | None:
        """What to show of a line; None for one of an unknown kind."""
        raise NotImplementedError

    def _say(self, text: str) -> Sequence[Said]:
        self._answer = text
        return (Said("stdout", text if text.endswith("\n") else f"{text}\n"),) if text else ()

    def _fail(self, text: str) -> Sequence[Said]:
        self._error = text or "it failed and did not say why"
        return (Said("log", f"error: {shown(self._error)}\n"),)


class CodexStream(_Stream):
    """`codex exec --json`."""

    _TOOLS: Final = {"command_execution", "mcp_tool_call", "web_search", "file_change"}

    def _read(self, kind: str, fields: dict[str, object]) -> Sequence[Said] | None:
        match kind:
            case "thread.started":
                self.session_id = name_of(fields.get("thread_id"))
                return (Said("log", f"session {self.session_id}\n"),)
            case "turn.started":
                self.has_result = False
                return ()
            case "item.started" | "item.updated" | "item.completed":
                return self._item(kind, object_of(fields.get("item")))
            case "turn.completed":
                self.has_result = True
                # An error before it was one that the CLI got over.
                self._error = ""
                self._add(object_of(fields.get("usage")))
                return ()
            case "turn.failed":
                self.has_result = True
                return self._fail(text_of(object_of(fields.get("error")).get("message")))
            case "error":
                return self._fail(text_of(fields.get("message")))
        return None

    def _item(self, kind: str, item: dict[str, object]) -> Sequence[Said]:
        what, item_id = text_of(item.get("type")), text_of(item.get("id"))
        is_end = kind == "item.completed"
        if is_end:
            self._tools.discard(item_id)
        elif what in self._TOOLS:
            self._tools.add(item_id)
        if what == "agent_message" and is_end:
            return self._say(text_of(item.get("text")))
        if what in self._TOOLS and kind == "item.started":
            detail = item.get("command") or item.get("query") or item.get("tool") or ""
            return (Said("log", f"{what} {shown(detail)}\n"),)
        return ()

    def _add(self, usage: dict[str, object]) -> None:
        cached = count_of(usage.get("cached_input_tokens"))
        self._tokens.add(
            Tokens(
                input=max(0, count_of(usage.get("input_tokens")) - cached),
                output=count_of(usage.get("output_tokens")),
                cache_read=cached,
            )
        )


class GeminiStream(_Stream):
    """`gemini --output-format stream-json`."""

    def _read(self, kind: str, fields: dict[str, object]) -> Sequence[Said] | None:
        match kind:
            case "init":
                self.session_id = name_of(fields.get("session_id"))
                self._model = name_of(fields.get("model")) or ""
                return (Said("log", f"session {self.session_id}, model {self._model}\n"),)
            case "message":
                return self._message(fields)
            case "tool_use":
                self._answer = ""
                self._tools.add(text_of(fields.get("tool_id")))
                text = f"{shown(fields.get('tool_name'))} {shown(fields.get('parameters'))}\n"
                return (Said("log", text),)
            case "tool_result":
                self._tools.discard(text_of(fields.get("tool_id")))
                return ()
            case "error":
                return (Said("log", f"{shown(fields.get('message'))}\n"),)
            case "result":
                return self._end(fields)
        return None

    def _message(self, fields: dict[str, object]) -> Sequence[Said]:
        if fields.get("role") != "assistant":
            return ()
        text = text_of(fields.get("content"))
        if fields.get("delta") is True:
            self._answer += text
            return (Said("stdout", text),) if text else ()
        return self._say(text)

    def _end(self, fields: dict[str, object]) -> Sequence[Said]:
        self.has_result = True
        stats = object_of(fields.get("stats"))
        cached = count_of(stats.get("cached"))
        self._tokens = Tokens(
            input=max(0, count_of(stats.get("input_tokens")) - cached),
            output=count_of(stats.get("output_tokens")),
            cache_read=cached,
        )
        if fields.get("status") == "success":
            return ()
        error = fields.get("error")
        return self._fail(text_of(object_of(error).get("message")) or text_of(error))

    def verdict(self, exit_code: int, stderr: str, now: datetime) -> Verdict:
        """See `CliStream`: two exit codes have a meaning of their own."""
        text = self._error or stderr.strip()
        if exit_code == 42:
            return Bad("permanent", text or "it refused its input", is_permanent=True)
        if exit_code == 53:
            return Bad("max_turns", text or "it took all its turns", is_permanent=True)
        return super().verdict(exit_code, stderr, now)


class OpencodeStream(_Stream):
    """`opencode run --format json`."""

    def _read(self, kind: str, fields: dict[str, object]) -> Sequence[Said] | None:
        self.session_id = name_of(fields.get("sessionID")) or self.session_id
        part = object_of(fields.get("part"))
        match kind:
            case "step_start":
                self.has_result = False
                return ()
            case "text":
                return self._say(text_of(part.get("text")))
            case "tool_use":
                state = object_of(part.get("state"))
                call, status = text_of(part.get("callID")), state.get("status")
                if status in ("completed", "error"):
                    self._tools.discard(call)
                else:
                    self._tools.add(call)
                text = f"{shown(part.get('tool'))} {shown(state.get('input'))}\n"
                return (Said("log", text),)
            case "step_finish":
                self.has_result = True
                self._add(part)
                return ()
            case "error":
                error = fields.get("error")
                data = object_of(object_of(error).get("data"))
                return self._fail(text_of(data.get("message")) or shown(error))
        return None

    def _add(self, part: dict[str, object]) -> None:
        tokens = object_of(part.get("tokens"))
        cache = object_of(tokens.get("cache"))
        self._tokens.add(
            Tokens(
                input=count_of(tokens.get("input")),
                output=count_of(tokens.get("output")) + count_of(tokens.get("reasoning")),
                cache_written=count_of(cache.get("write")),
                cache_read=count_of(cache.get("read")),
                cost_micro_usd=micro_usd_of(part.get("cost")),
            )
        )


class TextStream(_Stream):
    """A CLI that prints text and means by exit code 0 that it is done: the end of its text is the answer."""

    def __init__(self, prices: Prices, *, is_resumed: bool = False) -> None:
        super().__init__(prices, is_resumed=is_resumed)
        self._tail = Tail(INLINE_MAX_BYTES // 2)

    def feed(self, line: str) -> Sequence[Said]:
        """See `CliStream`."""
        self.has_started = True
        self._tail.add(line)
        return (Said("stdout", line),)

    def verdict(self, exit_code: int, stderr: str, now: datetime) -> Verdict:
        """See `CliStream`."""
        text = self._tail.text().strip()
        if exit_code == 0:
            return Good(text)
        # Only what stands on stderr is about the CLI itself: its answer may speak of anything.
        bad = without_result(exit_code, stderr, now, has_said_anything=True)
        kind = "error" if bad.error_class == "crash" and exit_code > 0 else bad.error_class
        error = bad.error if stderr.strip() else f"{bad.error}\n{text[-1000:]}".strip()
        return msgspec.structs.replace(bad, error_class=kind, error=error)
