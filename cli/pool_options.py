"""The options that say how many workers an agent keeps, and how its queues share them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer

from fleetlog.agents.lanes import QueueShare
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.ids import check_id

WORKERS_MAX: Final = 10_000
_WORKERS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")

WorkersOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|MIN-MAX",
        help="Worker processes to keep; MIN-MAX: more while tasks wait, fewer while nothing does.",
        show_default="one per CPU",
    ),
]
ReserveOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Keep N of its slots (workers times concurrency) for tasks of priority high alone.",
    ),
]


def workers_of(text: str) -> tuple[int, int | None]:
    """The least number of workers, and the most if that is another.

    Raises:
        InvalidInput: it is neither a number nor a range.
    """
    found = _WORKERS.fullmatch(text.strip())
    least = int(found[1]) if found else 0
    most = int(found[2] or least) if found else 0
    if not 1 <= least <= most <= WORKERS_MAX:
        raise InvalidInput(
            f"--workers {text[:40]!r} is not a number of workers: write one such as 4, or 2-16 for 2 to 16"
            f" (1 to {WORKERS_MAX})"
        )
    return least, most if most > least else None


def check_reserve(count: int, workers_most: int, concurrency: int = 1) -> int:
    """The number of slots that are reserved, if others remain.

    Raises:
        InvalidInput: no slot would be left for tasks that are not high.
    """
    slots = workers_most * concurrency
    if count >= slots:
        raise InvalidInput(
            f"--reserve-high {count} leaves no slot for other tasks: the agent has {slots} (workers times"
            f" concurrency), so say at most {slots - 1}, or give it more --workers"
        )
    return count


def shares_of(texts: Sequence[str] | None) -> Mapping[str, QueueShare]:
    """By name, what part of the agent each queue may have; `default` when none is named.

    Raises:
        InvalidInput: a name that no queue can have, or an unknown limit.
    """
    shares = {}
    for text in texts or ("default",):
        name, *words = re.split("[:,]", text)
        shares[check_id(name, "queue")] = _share(text, words)
    return shares


def _share(text: str, words: Sequence[str]) -> QueueShare:
    numbers: dict[str, int] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in ("max", "weight") or key in numbers or _NUMBER.fullmatch(value) is None:
            raise InvalidInput(
                f"--queue {text[:80]!r} is not understood at {word[:40]!r}: write NAME, or NAME:max=2,weight=3"
                " with whole numbers from 1 on"
            )
        numbers[key] = int(value)
    return QueueShare(running_max=numbers.get("max"), weight=numbers.get("weight", 1))
