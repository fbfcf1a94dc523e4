"""A task that asks waits for the answer, for no time, and the answer is its next offer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fleetlog.bus.core import Refusal, Return, Task, decide, due, next_due_at, permits
from fleetlog.bus.core.commands import GiveAnswer
from fleetlog.schemas.envelope import UnknownEvent
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import TaskCancelled, TaskFailed, TaskQueued, TaskReturned
from fleetlog.schemas.questions import (
    ANSWERS_MAX,
    CHOICE_CHARS_MAX,
    CHOICES_MAX,
    Answer,
    Question,
    answer_text,
    check_question,
)
from tests.given import (
    at,
    cancel_requested,
    claimed,
    completed,
    expire,
    fold,
    give_back,
    held,
    queue,
    queued,
    request_cancel,
    returned,
)

WHICH = Question(text="which?", choices=("main", "dev"))


def asking(fence: int = 2, question: Question | None = WHICH, attempts: int = 1) -> TaskReturned:
    event = returned(fence, attempts, error_class="needs_input", delay_ms=5)
    return msgspec.structs.replace(event, error="which?", question=question)


def answer(value: Any = "main", asked: int = 3, actor: str | None = "ann") -> GiveAnswer:
    return GiveAnswer(id="c", asked=asked, answer=value, actor=actor)


ASKING = fold(queued(max_attempts=2), claimed(), asking())


def test_an_attempt_that_asks_is_returned_without_blame() -> None:
    command = Return(
        id="c", fence=2, error_class="needs_input", error="which?", question=WHICH, session_id="s"
    )
    event = decide(command, fold(queued(), claimed()), at(9))
    assert isinstance(event, TaskReturned)
    assert (event.error_class, event.question, event.session_id) == ("needs_input", WHICH, "s")
    assert (ASKING.status, ASKING.failures, ASKING.losses) == ("waiting", 0, 0)
    assert (ASKING.question, ASKING.asked, ASKING.due_at) == (WHICH, 3, None)


def test_no_time_moves_it_on() -> None:
    assert next_due_at(ASKING) is None
    assert due(ASKING, at(10**9)) is None
    assert decide(queue(), ASKING, at(10**9)) == Refusal("not_due", ASKING)


def test_its_overall_time_does_and_a_cancel_too() -> None:
    task = fold(queued(expires_ms=60_000), claimed(), asking())
    assert next_due_at(task) == at(60)
    assert due(task, at(59)) is None
    assert due(task, at(60)) is not None
    assert not isinstance(decide(expire(), task, at(60)), Refusal)
    assert isinstance(decide(request_cancel(), ASKING, at(9)), TaskCancelled)


def test_the_answer_is_the_next_offer_and_names_who_gave_it() -> None:
    event = decide(answer(), ASKING, at(9))
    assert isinstance(event, TaskQueued)
    given = Answer(question="which?", answer="main", actor="ann", at=at(9))
    assert (event.attempt, event.failures, event.answers) == (2, 0, (given,))
    assert (event.spec, event.digest, event.actor) == (ASKING.spec, ASKING.digest, "ann")
    assert permits(ASKING, event)
    task = fold(queued(), claimed(), asking(), event)
    assert (task.status, task.question, task.asked, task.answers) == ("queued", None, 0, (given,))


def test_all_answers_so_far_are_in_every_later_offer() -> None:
    first = decide(answer(), ASKING, at(9))
    again = fold(queued(), claimed(), asking(), first, claimed(4, 2), asking(5, None, 2))  # type: ignore[arg-type]
    assert again.question == Question(text="which?")
    assert (again.asked, len(again.answers)) == (6, 1)
    second = decide(answer({"n": 1}, 6, None), again, at(10))
    assert isinstance(second, TaskQueued)
    assert [each.answer for each in second.answers] == ["main", {"n": 1}]
    lost = fold(second, claimed(attempt=3), returned(2, 3))
    after = decide(queue(), lost, at(99))
    assert isinstance(after, TaskQueued)
    assert after.answers == second.answers


@pytest.mark.parametrize("value", ["Main", "", 7, None, ["main"]])
def test_an_answer_is_one_of_the_choices(value: object) -> None:
    assert decide(answer(value), ASKING, at(9)) == Refusal("not_a_choice", ASKING)
    free = fold(queued(), claimed(), asking(question=Question(text="what?")))
    assert isinstance(decide(answer(value), free, at(9)), TaskQueued)


NOTHING_ASKED: dict[str, Task] = {
    "absent": fold(),
    "unreadable": fold(UnknownEvent(None, "new")),
    "held": fold(held()),
    "queued": fold(queued()),
    "claimed": fold(queued(), claimed()),
    "waiting for a time": fold(queued(), claimed(), returned(2)),
    "another question": fold(queued(), claimed(), queued(), asking()),
    "ending": fold(queued(), claimed(), cancel_requested(), asking()),
}


@pytest.mark.parametrize("given", NOTHING_ASKED)
def test_what_is_not_asked_is_not_answered(given: str) -> None:
    task = NOTHING_ASKED[given]
    assert decide(answer(), task, at(9)) == Refusal("not_asked", task)


def test_a_settled_task_is_not_answered() -> None:
    task = fold(queued(), claimed(), completed(2))
    assert decide(answer(), task, at(9)) == Refusal("already_settled", task)


def test_one_that_would_ask_for_ever_has_failed() -> None:
    given = (Answer(question="q", answer=1, at=at(0)),) * (ANSWERS_MAX - 1)
    command = msgspec.structs.replace(give_back(2, "needs_input"), question=WHICH)
    last = fold(queued(progress={"answers": given}), claimed())
    assert isinstance(decide(command, last, at(9)), TaskReturned)
    full = fold(queued(progress={"answers": (*given, given[0])}), claimed())
    event = decide(command, full, at(9))
    assert isinstance(event, TaskFailed)
    assert (event.error_class, event.fence) == ("needs_input", 2)
    assert str(ANSWERS_MAX) in event.error
    drained = decide(give_back(2), full, at(9) + timedelta(days=1))
    assert isinstance(drained, TaskReturned)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        (" ", ()),
        (None, ()),
        (7, ()),
        ("q", "yes"),
        ("q", [1]),
        ("q", ["a", "a"]),
        ("q", [""]),
        ("q", ["a" * (CHOICE_CHARS_MAX + 1)]),
        ("q", [str(n) for n in range(CHOICES_MAX + 1)]),
    ],
)
def test_what_cannot_be_asked_is_refused(text: object, choices: object) -> None:
    with pytest.raises(InvalidInput):
        check_question(text, choices)


def test_an_answer_reads_as_text_or_as_json() -> None:
    assert check_question("q", ["a", "b"]) == Question(text="q", choices=("a", "b"))
    assert answer_text(Answer(question="q", answer='a "b"', at=at(0))) == 'a "b"'
    assert answer_text(Answer(question="q", answer={"ä": [1]}, at=at(0))) == '{"ä":[1]}'
