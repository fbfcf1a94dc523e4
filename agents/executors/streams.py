"""`print` in a handler reaches its own task's output, also when many attempts run in one process."""

from __future__ import annotations

import io
import sys
from contextvars import ContextVar
from typing import Final, Literal, TextIO

from fleetlog.agents.executors.output import AttemptOutput

current_output: Final[ContextVar[AttemptOutput | None]] = ContextVar(
    "fleetlog_output", default=None
)
"""The output of the attempt that the running code belongs to."""


class AttemptStream(io.TextIOBase):
    """A `sys.stdout` or `sys.stderr` that writes to the running attempt's output, else to a fallback.

    Threads that a handler starts itself do not inherit the attempt: theirs goes to the fallback.
    """

    def __init__(self, name: Literal["stdout", "stderr"], fallback: TextIO) -> None:
        self._name: Final = name
        self._fallback = fallback
        self.buffer = _AttemptBuffer(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a constant here
        """UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # a constant here
        """What has no UTF-8 is replaced."""
        return "replace"

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The fallback's."""
        return self._fallback.fileno()

    def write(self, text: str, /) -> int:
        """See `io.TextIOBase`."""
        output = current_output.get()
        if output is None:
            return self._fallback.write(text)
        output.print(self._name, text)
        return len(text)

    def flush(self) -> None:
        """See `io.TextIOBase`."""
        output = current_output.get()
        if output is None:
            self._fallback.flush()
        else:
            output.flush_print(self._name)


class _AttemptBuffer(io.RawIOBase):
    """The bytes' side of the stream, for those who write to `sys.stdout.buffer`."""

    def __init__(self, stream: AttemptStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # any buffer, as bytes
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        # Also called while the interpreter ends, when the stream may be gone.
        if not self.closed:
            self._stream.flush()


def redirect() -> None:
    """Puts attempt streams in place of `sys.stdout` and `sys.stderr`; without an attempt both go to stderr."""
    sys.stdout = AttemptStream("stdout", sys.stderr)
    sys.stderr = AttemptStream("stderr", sys.stderr)
