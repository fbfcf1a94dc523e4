"""What an attempt asks a person, and what was answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from fleetlog.schemas.errors import InvalidInput

CHOICES_MAX: Final = 100
CHOICE_CHARS_MAX: Final = 256
ANSWER_MAX_BYTES: Final = 16 * 1024
"""One answer as JSON. Each offer holds all of a task's: what is large belongs into a file or a store."""
ANSWERS_MAX: Final = 100
"""A task that asks more often has failed: it would ask for ever."""


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a task needs to know before it can go on."""

    text: str
    """For a person."""
    choices: tuple[str, ...] = ()
    """What may be answered; empty: anything."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question of an earlier attempt, and what was answered."""

    question: str
    """Its text."""
    answer: Any
    """A JSON value, mostly a text."""
    actor: str | None = None
    """Who answered."""
    at: Annotated[datetime, Meta(tz=True)]
    """When, by the clock of whoever answered."""


def check_question(text: object, choices: object = ()) -> Question:
    """The question, if it can be asked.

    Raises:
        InvalidInput: it has no text, or something else than different, short texts as choices.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"a question needs a text, not {text!r}")
    if not isinstance(choices, list | tuple) or not all(isinstance(each, str) for each in choices):
        raise InvalidInput(f"the choices of a question are a list of texts, not {choices!r}")
    if len(choices) > CHOICES_MAX or len(set(choices)) < len(choices):
        raise InvalidInput(f"a question has at most {CHOICES_MAX} choices, each only once")
    if any(not 0 < len(each) <= CHOICE_CHARS_MAX for each in choices):
        raise InvalidInput(f"a choice has 1 to {CHOICE_CHARS_MAX} characters")
    return Question(text=text, choices=tuple(choices))


def answer_text(answer: Answer) -> str:
    """The answer as a program reads it: a text as it is, anything else as JSON."""
    value = answer.answer
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
