"""Questions in what agent CLIs answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleetlog.agents.answers import NeedInput
from fleetlog.agents.context import Context
from fleetlog.agents.executors.asking import asked_in, with_answers
from fleetlog.agents.executors.exec_v1 import read_line
from fleetlog.agents.frames import Asked
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.questions import Answer

AT = datetime(2026, 1, 1, tzinfo=UTC)
LINE = '{"type": "need_input", "question": "which?", "choices": ["a", "b"]}'
ASKED = Asked("which?", ("a", "b"))


@pytest.mark.parametrize(
    "result",
    [
        LINE,
        f"I can't go on.\n\n{LINE}\n",
        f"```json\n{LINE}\n```",
        '{\n"type": "need_input",\n"question": "which?",\n"choices": ["a", "b"]\n}',
        {"type": "need_input", "question": "which?", "choices": ["a", "b"]},
    ],
)
def test_a_question_is_found_at_the_end(result: object) -> None:
    assert asked_in(result) == ASKED


@pytest.mark.parametrize(
    "result",
    [
        *("", "done", "{}", "```", None, 7, ["need_input"], {"type": "need_input"}),
        f"{LINE}\nbut I have found it out",
        '{"type": "need_input", "question": ""}',
        '{"type": "need_input", "question": "q", "choices": ["a", "a"]}',
        '{"type": "log", "msg": "need_input"}',
        "\udcff" + LINE,
    ],
)
def test_what_is_none_is_left_alone(result: object) -> None:
    assert asked_in(result) is None


def test_a_line_that_cannot_be_asked_is_output() -> None:
    assert read_line(LINE) is not None
    for wrong in ('{"type":"need_input"}', '{"type":"need_input","question":"q","choices":[""]}'):
        assert read_line(wrong) is None


def test_a_new_session_is_told_all_that_was_answered() -> None:
    answers = (
        Answer(question="which?", answer="main", at=AT),
        Answer(question="how many?", answer=7, at=AT),
    )
    assert with_answers("Do it.", answers) == (
        "Do it.\n\nYou asked: which?\nThe answer: main\n\nYou asked: how many?\nThe answer: 7"
    )
    assert with_answers("Do it.", ()) == "Do it."


def test_a_handler_under_test_is_given_answers() -> None:
    assert Context("t").answer is None
    given = Answer(question="which?", answer="main", at=AT)
    assert Context("t", answers=[given]).answers == (given,)
    assert Context("t", answers=[given]).answer == "main"
    assert NeedInput("which?", choices=["a"]).question.choices == ("a",)
    with pytest.raises(InvalidInput, match="text"):
        NeedInput("")
