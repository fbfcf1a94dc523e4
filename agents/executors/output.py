"""What an attempt writes, on its way to the supervisor: lines together, for 100 ms or until 64 KiB."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

from fleetlog.bus.system import Clock
from fleetlog.schemas.beats import OutputChunk

FLUSH_AFTER_S: Final = 0.1
FLUSH_AT_CHARS: Final = 64 * 1024
_HELD_CHARS_MAX: Final = 256 * 1024
# Counted for every piece, so that many empty ones (progress) are much too.
_CHUNK_COST_CHARS: Final = 32

Stream: TypeAlias = Literal["stdout", "stderr", "log", "progress"]


class AttemptOutput:
    """The output of one attempt. `write`, `print` and `flush_print` may be called from any thread.

    Args:
        send: takes chunks of at most 64 Ki characters together; called in the loop's thread.
        drain: waits while the supervisor reads more slowly than this worker writes.
        clock: for the chunks' times.
    """

    def __init__(
        self,
        send: Callable[[list[OutputChunk]], None],
        drain: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._send = send
        self._drain = drain
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._lock = threading.Lock()
        self._held: list[OutputChunk] = []
        self._held_chars = 0
        self._lines: dict[Stream, str] = {}
        self._is_flush_due = False
        self._timer: asyncio.TimerHandle | None = None

    def write(self, stream: Stream, text: str, pct: float | None = None) -> None:
        """Adds a piece of output.

        A thread that writes faster than the supervisor reads waits here; the loop's thread never does, it
        awaits `drain`.
        """
        # What has no UTF-8 (lone surrogates) is replaced, else it could not be sent.
        text = text.encode("utf-8", "replace").decode()
        now = self._clock.now()
        with self._lock:
            for start in range(0, max(1, len(text)), FLUSH_AT_CHARS):
                piece = text[start : start + FLUSH_AT_CHARS]
                self._held.append(OutputChunk(stream=stream, text=piece, occurred_at=now, pct=pct))
            self._held_chars += len(text) + _CHUNK_COST_CHARS
            is_first, self._is_flush_due = not self._is_flush_due, True
            is_much, is_too_much = (
                self._held_chars >= FLUSH_AT_CHARS,
                self._held_chars >= _HELD_CHARS_MAX,
            )
        if threading.get_ident() == self._thread_id:
            if is_much:
                self.flush()
            elif is_first:
                self._flush_later()
        elif is_too_much:
            asyncio.run_coroutine_threadsafe(self.drain(), self._loop).result()
        elif is_first:
            self._loop.call_soon_threadsafe(self._flush_later)

    def print(self, stream: Stream, text: str) -> None:
        """Adds text as a terminal takes it: what has no line end yet waits for it, or for `flush_print`."""
        with self._lock:
            text = self._lines.pop(stream, "") + text
            whole, newline, rest = text.rpartition("\n")
            if len(rest) > FLUSH_AT_CHARS:
                whole, newline, rest = text, "", ""
            if rest:
                self._lines[stream] = rest
        if whole or newline:
            self.write(stream, whole + newline)

    def flush_print(self, stream: Stream) -> None:
        """Adds what `print` holds back."""
        with self._lock:
            text = self._lines.pop(stream, "")
        if text:
            self.write(stream, text)

    def flush(self) -> None:
        """Sends what is held; in the loop's thread only."""
        with self._lock:
            held, self._held, self._held_chars = self._held, [], 0
            self._is_flush_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for chunks in _packed(_joined(held)):
            self._send(chunks)

    async def drain(self) -> None:
        """Sends what is held if it is much, and waits until the supervisor has taken most of it."""
        if self._held_chars >= FLUSH_AT_CHARS:
            self.flush()
        await self._drain()

    def close(self) -> None:
        """Sends everything; in the loop's thread only."""
        for stream in tuple(self._lines):
            self.flush_print(stream)
        self.flush()

    def _flush_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER_S, self.flush)


def _joined(chunks: list[OutputChunk]) -> list[OutputChunk]:
    """Neighbours of one stream become one chunk; progress and log entries stay single."""
    joined: list[OutputChunk] = []
    texts: list[str] = []
    size = 0
    for chunk in chunks:
        first = joined[-1] if joined else None
        is_same = first is not None and first.stream == chunk.stream in ("stdout", "stderr")
        if is_same and size + len(chunk.text) <= FLUSH_AT_CHARS:
            texts.append(chunk.text)
            size += len(chunk.text)
            continue
        _close_last(joined, texts)
        joined.append(chunk)
        texts, size = [chunk.text], len(chunk.text)
    _close_last(joined, texts)
    return joined


def _close_last(joined: list[OutputChunk], texts: list[str]) -> None:
    if len(texts) > 1:
        last = joined[-1]
        joined[-1] = OutputChunk(
            stream=last.stream, text="".join(texts), occurred_at=last.occurred_at
        )


def _packed(chunks: list[OutputChunk]) -> list[list[OutputChunk]]:
    """Lists of at most 64 Ki characters and 1000 chunks."""
    packs: list[list[OutputChunk]] = []
    size = FLUSH_AT_CHARS
    for chunk in chunks:
        if not packs or size + len(chunk.text) > FLUSH_AT_CHARS or len(packs[-1]) >= 1000:
            packs.append([])
            size = 0
        packs[-1].append(chunk)
        size += len(chunk.text)
    return packs
