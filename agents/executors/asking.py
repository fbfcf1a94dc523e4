"""Questions to people: how programs ask, and how agent CLIs go on with the answer."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fleetlog.agents.frames import Asked, clip
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.questions import Answer, answer_text, check_question

_FENCE: Final = "```"


class NeedInputLine(msgspec.Struct, frozen=True, tag_field="type", tag="need_input"):
    """The attempt needs an answer, and ends."""

    question: Annotated[str, Meta(min_length=1)]
    choices: list[str] | None = None

    def asked(self) -> Asked:
        """The outcome of an attempt that ends with it.

        Raises:
            InvalidInput: it can't be asked.
        """
        question = check_question(self.question, self.choices or ())
        return Asked(clip(question.text), question.choices)


_decoder: Final = msgspec.json.Decoder(NeedInputLine)


def asked_in(result: object) -> Asked | None:
    """The question, if an agent CLI's answer is one: as a structure, as its whole text, or as its last line.

    Models like to put JSON between fences; these are passed over.
    """
    if isinstance(result, dict):
        return _read(msgspec.json.encode(result))
    if not isinstance(result, str):
        return None
    lines = [line for line in result.splitlines() if line.strip() and not line.startswith(_FENCE)]
    if not lines:
        return None
    return _read("\n".join(lines).encode("utf-8", "replace")) or _read(
        lines[-1].encode("utf-8", "replace")
    )


def with_answers(prompt: str, answers: tuple[Answer, ...]) -> str:
    """The prompt for a session that knows nothing of what was asked before."""
    said = (f"You asked: {each.question}\nThe answer: {answer_text(each)}" for each in answers)
    return "\n\n".join((prompt, *said))


def _read(data: bytes) -> Asked | None:
    try:
        return _decoder.decode(data).asked()
    except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidInput):
        return None
