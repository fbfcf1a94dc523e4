"""What a task requires of the agent that runs it, and the queue of all tasks that require the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

REQUIREMENTS_MAX: Final = 16
"""A task requires no more labels."""
_BASE_CHARS_MAX: Final = 64
_SLUG_CHARS_MAX: Final = 48
_NOT_TOKEN: Final = re.compile(r"[^A-Za-z0-9_-]+")


def offer_queue(queue: str, requires: Mapping[str, str]) -> str:
    """The queue on which a task of `queue` is offered: that one, or one of its own for what it requires.

    The same for everybody: `<queue>-needs-<label>-<value>…-<8 hex digits>`. The words are for people and may be
    cut; the digits stand for all of it: they begin the SHA-256 of `["<queue>",[["<label>","<value>"],…]]`, JSON
    without white space, the labels in order. Whoever serves `queue` and has the labels serves it too.
    """
    if not requires:
        return queue
    pairs = sorted(requires.items())
    digest = hashlib.sha256(msgspec.json.encode((queue, pairs))).hexdigest()[:8]
    words = _NOT_TOKEN.sub("-", "-".join(word for pair in pairs for word in pair)).strip("-")
    return f"{queue[:_BASE_CHARS_MAX]}-needs-{words[:_SLUG_CHARS_MAX]}-{digest}"


def satisfies(labels: Mapping[str, str], requires: Mapping[str, str]) -> bool:
    """Whether an agent with these labels has all that is required; values match exactly."""
    return all(labels.get(name) == value for name, value in requires.items())


def requirements_text(requires: Mapping[str, str]) -> str:
    """For people: `gpu=yes, os=linux`."""
    return ", ".join(f"{name}={value}" for name, value in sorted(requires.items()))
