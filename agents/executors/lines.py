"""Lines out of a stream of text, however long they are, in bounded memory."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from fleetlog.schemas.objects import PAYLOAD_MAX_BYTES

JSON_CHARS_MAX: Final = PAYLOAD_MAX_BYTES + 64 * 1024
"""A line that may be JSON is held up to this length: the largest result and what stands around it."""
TEXT_CHARS_MAX: Final = 64 * 1024
"""Any other line comes in pieces of about this length."""

# Some programs switch the terminal's modes in front of their first line.
_JSON_HEAD: Final = re.compile(r"(?:\s|\x1b\[[0-9;?]{0,16}[A-Za-z])*\{")


class LineSplitter:
    """Cuts text into lines that may be JSON, one by one, and the others, many at a time where they come so.

    Every line has its line end; a line too long to hold comes as pieces without one.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0
        self._is_json = False
        self._is_passing = False

    @property
    def has_rest(self) -> bool:
        """Something waits for its line end."""
        return bool(self._parts)

    def feed(self, text: str) -> list[str]:
        """Takes the next text; gives whole lines, and pieces of a line that is too long."""
        pieces: list[str] = []
        if (self._parts or self._is_passing) and "\n" in text:
            line_end, _, text = text.partition("\n")
            self._parts.append(line_end + "\n")
            pieces.append(self.end())
        whole, newline, rest = text.rpartition("\n")
        if "{" in whole:
            pieces += [line + "\n" for line in whole.split("\n")]
        elif newline:
            pieces.append(whole + newline)
        if rest:
            self._hold(rest)
            if self._size > (JSON_CHARS_MAX if self._is_json else TEXT_CHARS_MAX):
                pieces.append(self.end())
                self._is_passing = True
        return pieces

    def end(self) -> str:
        """What is left without a line end; nothing is held any more."""
        rest = "".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._is_passing = False
        return rest

    def release(self) -> str:
        """Gives up waiting for a line end: what is held, unless it may become a line of JSON."""
        if self._is_json or not self._parts:
            return ""
        rest = self.end()
        self._is_passing = True
        return rest

    def _hold(self, text: str) -> None:
        if not self._parts:
            # The rest of a line whose start has passed is no JSON.
            self._is_json = not self._is_passing and _JSON_HEAD.match(text) is not None
        self._parts.append(text)
        self._size += len(text)


class Tail:
    """The last characters of a text, about `chars_max` of them."""

    def __init__(self, chars_max: int) -> None:
        self._chars_max: Final = chars_max
        self._pieces: deque[str] = deque()
        self._size = 0

    def add(self, text: str) -> None:
        """Adds to the end."""
        self._pieces.append(text)
        self._size += len(text)
        while self._size - len(self._pieces[0]) >= self._chars_max:
            self._size -= len(self._pieces.popleft())

    def text(self) -> str:
        """The last `chars_max` characters."""
        return "".join(self._pieces)[-self._chars_max :]
