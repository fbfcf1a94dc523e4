"""What a handler may say instead of giving a result."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fleetlog.schemas.durations import DURATION_MAX_MS, parse_duration
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.questions import check_question


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Return it to have the task tried again later."""

    after: str | float
    """The wait: seconds, or text such as `10s`."""
    reason: str = "the handler asked for another attempt"
    """Recorded with the attempt."""
    counts: bool = True
    """Whether this attempt counts against `max_attempts`."""

    @property
    def after_ms(self) -> int:
        """The wait in milliseconds.

        Raises:
            InvalidInput: it is not a duration.
        """
        return duration_ms(self.after, "Retry.after")


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """Return it to have the task cancelled: it ends, and that is no failure."""

    reason: str = "the handler called it off"
    """Recorded with the outcome."""


class NeedInput(Exception):
    """Return or raise it to ask a person; the attempt ends, and the worker is free.

    `fleetlog task answer` answers, and then another attempt finds the answer in `ctx.answer`. It counts as no
    failure. The task waits for as long as it takes, or until it expires.

    Args:
        question: for a person.
        choices: what may be answered; without any, anything.

    Raises:
        InvalidInput: the question has no text, or the choices are not different, short texts.
    """

    def __init__(self, question: str, *, choices: Sequence[str] = ()) -> None:
        super().__init__(question)
        self.question = check_question(question, choices)


class PermanentError(Exception):
    """Raise it to fail the task at once: trying again is useless."""


class GatherFailed(Exception):
    """What `ctx.gather` waited for could not be made, or its policy can't be met any more."""


def duration_ms(value: str | float, what: str) -> int:
    """Milliseconds of a duration given as text or as seconds.

    Raises:
        InvalidInput: it is not a duration.
    """
    if isinstance(value, str):
        return parse_duration(value, what)
    if not 0 <= value <= DURATION_MAX_MS / 1000:
        raise InvalidInput(f"{what} {value!r} is not allowed: give seconds from 0 to ten years")
    return round(value * 1000)
