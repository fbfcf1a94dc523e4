"""What a submit may say differently from the task's spec, with durations as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, cast

import msgspec

from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.durations import parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Priority

Duration = str | int | float
"""`"30s"`, or a number of seconds."""


class SubmitOptions(TypedDict, total=False):
    """What a submit may say differently from the spec; see `TaskSpec` for each."""

    queue: str
    priority: Priority
    labels: dict[str, str]
    max_attempts: int
    timeout: Duration | None
    start_within: Duration | None
    silence: Duration | None
    expires: Duration | None
    delay: Duration
    parent_id: str
    repo: str
    after: Sequence[str]
    limits: Sequence[str]
    budgets: Sequence[str]
    budget: Budget
    fair_key: str
    requires: dict[str, str]
    affinity: str
    affinity_wait: Duration


def with_options(spec: TaskSpec, options: SubmitOptions) -> TaskSpec:
    """The spec with a submit's options.

    Raises:
        InvalidInput: an option is unknown, or no duration or none that leaves time where it must be one.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if name == "affinity_wait":
            fields["affinity_ms"] = _limit_ms(cast("Duration", value), name)
        elif name in ("timeout", "start_within", "silence", "expires", "delay"):
            fields[f"{name}_ms"] = (
                None if value is None else _limit_ms(cast("Duration", value), name)
            )
        elif name in ("after", "limits", "budgets"):
            fields[name] = tuple(cast("Sequence[str]", value))
        elif name in SubmitOptions.__annotations__:
            fields[name] = value
        else:
            raise InvalidInput(
                f"unknown option {name!r}: use one of {', '.join(sorted(SubmitOptions.__annotations__))}"
            )
    return msgspec.structs.replace(spec, **fields) if fields else spec


def _limit_ms(value: Duration, what: str) -> int:
    found = milliseconds_of(value, what)
    if found < 0 or (found == 0 and what != "delay"):
        raise InvalidInput(f"{what} {value!r} leaves no time: give a longer one, such as 30s")
    return found


def milliseconds_of(value: Duration, what: str) -> int:
    """A duration in milliseconds; `what` names it in errors."""
    return parse_duration(value, what) if isinstance(value, str) else round(value * 1000)


def seconds_of(value: Duration | None) -> float | None:
    """A time-out in seconds; None for none."""
    return None if value is None else milliseconds_of(value, "timeout") / 1000
