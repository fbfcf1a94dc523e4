"""What an agent CLI's stream comes to, whatever the CLI: text to show, a session, usage, a verdict. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from fleetlog.agents.executors.cli_troubles import reset_in, trouble_in
from fleetlog.agents.executors.output import Stream
from fleetlog.agents.groups import signal_name
from fleetlog.schemas.events import ErrorClass, Usage

_ANSI: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_])")
_SHOWN_CHARS_MAX: Final = 300
_COUNT_MAX: Final = 2**53
_SESSION_CHARS_MAX: Final = 200
_MODEL_CHARS_MAX: Final = 200

Price = Annotated[float, Meta(ge=0, le=1e6)]
Prices = Mapping[str, tuple[Price, Price, Price, Price]]
"""By pattern of a model's name, US dollars per million tokens: input, output, cache written, cache read."""


class Said(msgspec.Struct, frozen=True):
    """Something to show of what the CLI said."""

    stream: Stream
    """Its answers are stdout, all else is log."""
    text: str
    """With its line end."""


class Good(msgspec.Struct, frozen=True):
    """The CLI says that it has done what it was asked."""

    result: object
    """Text, or the structure that was asked for."""


class Bad(msgspec.Struct, frozen=True):
    """It has not."""

    error_class: ErrorClass
    """What was wrong."""
    error: str
    """For people."""
    is_permanent: bool = False
    """Trying again is useless."""
    until: datetime | None = None
    """When a used-up allowance begins anew."""


Verdict = Good | Bad


class Window(msgspec.Struct, frozen=True):
    """How much of one allowance is used."""

    name: str
    """In the service's words."""
    utilization: float
    """0 to 1."""
    resets_at: datetime | None
    """When it begins anew."""


class CliStream(Protocol):
    """Reads what one run of a CLI prints; nothing that it prints makes it raise."""

    has_started: bool
    """It has said that it is up."""
    has_result: bool
    """It has said how its work ended."""
    session_id: str | None
    """By which it can be resumed."""

    @property
    def is_in_tool(self) -> bool:
        """A tool that it called has not answered yet."""
        ...

    @property
    def windows(self) -> Sequence[Window]:
        """What it said last about each allowance."""
        ...

    def feed(self, line: str) -> Sequence[Said]:
        """Takes a line of its stdout; answers what to show."""
        ...

    def usage(self) -> Usage | None:
        """What it has used so far; None if it did not say."""
        ...

    def verdict(self, exit_code: int, stderr: str, now: datetime) -> Verdict:
        """How it ended; `now` is for times of day in its messages."""
        ...


class NewStream(Protocol):
    """Makes a stream for one run."""

    def __call__(self, prices: Prices, *, is_resumed: bool) -> CliStream:
        """With what models cost, and whether it goes on with an earlier session."""
        ...


def fields_of(line: str) -> dict[str, object] | None:
    """The line, if it is one JSON object; colours and other codes of terminals do not matter."""
    text = line.strip()
    if text.startswith("\x1b"):
        text = _ANSI.sub("", text).strip()
    if not text.startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_of(value: object) -> str:
    """A text that can be written as UTF-8; empty for anything else."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def name_of(value: object, chars_max: int = _SESSION_CHARS_MAX) -> str | None:
    """A short text; None for anything else."""
    text = text_of(value)
    return text if 0 < len(text) <= chars_max else None


def object_of(value: object) -> dict[str, object]:
    """An object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: object) -> Iterator[dict[str, object]]:
    """The objects in a list; none for anything else."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def count_of(value: object) -> int:
    """A count; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _COUNT_MAX:
        return 0
    return int(value)


def micro_usd_of(value: object) -> int:
    """Millionths of the dollars; 0 for anything that is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e9:
        return 0
    return round(value * 1_000_000)


def shown(value: object) -> str:
    """A value in one short line for people."""
    text = (
        value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8", "replace")
    )
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[: _SHOWN_CHARS_MAX - 1]}…"


class Tokens(msgspec.Struct):
    """Tokens of one model."""

    input: int = 0
    """Not from a cache."""
    output: int = 0
    """Written."""
    cache_written: int = 0
    """Read, and kept for later."""
    cache_read: int = 0
    """Read from what was kept."""
    cost_micro_usd: int = 0
    """As the CLI says it."""

    def add(self, other: Tokens) -> None:
        """Adds them."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def count(self) -> int:
        """All of them."""
        return self.input + self.output + self.cache_written + self.cache_read


def usage_of(by_model: Mapping[str, Tokens], prices: Prices, cost_micro_usd: int) -> Usage | None:
    """The sum; without a cost that the CLI told, what it costs by the list of prices. None without tokens."""
    if not any(tokens.count for tokens in by_model.values()) and not cost_micro_usd:
        return None
    model = max(by_model, key=lambda name: by_model[name].count, default="")
    return Usage(
        input_tokens=sum(t.input + t.cache_written + t.cache_read for t in by_model.values()),
        output_tokens=sum(t.output for t in by_model.values()),
        cost_micro_usd=cost_micro_usd
        or sum(estimate_micro_usd(name, tokens, prices) for name, tokens in by_model.items()),
        model=model[:_MODEL_CHARS_MAX] or None,
    )


def estimate_micro_usd(model: str, tokens: Tokens, prices: Prices) -> int:
    """What the tokens cost by the first price whose pattern fits the model; 0 without one."""
    for pattern, (per_input, per_output, per_written, per_read) in prices.items():
        if fnmatchcase(model, pattern):
            return round(
                tokens.input * per_input
                + tokens.output * per_output
                + tokens.cache_written * per_written
                + tokens.cache_read * per_read
            )
    return 0


def without_result(exit_code: int, stderr: str, now: datetime, *, has_said_anything: bool) -> Bad:
    """The verdict on a CLI that ended without a word about how."""
    said = stderr.strip()
    ended = (
        f"ended by {signal_name(-exit_code)}" if exit_code < 0 else f"ended with code {exit_code}"
    )
    text = f"the agent CLI {ended} without a result" + (f"\n{said}" if said else "")
    trouble = trouble_in(said)
    if trouble is not None:
        return Bad(trouble, text, until=reset_in(said, now))
    if exit_code == 0:
        return Bad("protocol", text)
    if 0 < exit_code < 128 and not has_said_anything:
        # Wrong flags and the like: it said why on stderr, and will say so again.
        return Bad("permanent", text, is_permanent=True)
    return Bad("crash", text)
