"""Answering what a task asks, from the command line, and how a person sees questions."""

from __future__ import annotations

import msgspec
import typer

from fleetlog.bus.answering import answer_task
from fleetlog.bus.client import Client
from fleetlog.cli.actor import actor
from fleetlog.cli.inputs import json_of, read_stdin
from fleetlog.cli.rendering import instant_text, one_line, write_json
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.questions import Answer, Question, answer_text


def value_of(text: str | None, json_value: str | None) -> object:
    """The answer that was given on the command line; a text on stdin loses its last line end.

    Raises:
        InvalidInput: there is none, or there are two, or it is not JSON.
    """
    if (text is None) == (json_value is None):
        raise InvalidInput("give one answer: a text, - to read it from stdin, or --json-value")
    if json_value is not None:
        return msgspec.json.decode(json_of(json_value, "answer"))
    assert text is not None
    return read_stdin("answer").removesuffix("\n") if text == "-" else text


async def answer_and_tell(client: Client, task_id: str, value: object, *, is_json: bool) -> None:
    """Answers, and says what was asked."""
    answered = await answer_task(client.fleet, task_id, value, actor=actor())
    if is_json:
        write_json(answered)
    else:
        typer.echo(f"task {task_id} goes on; it had asked: {one_line(answered.question)}")


def question_text(question: Question) -> str:
    """The question in one line, with what may be answered."""
    text = f'"{one_line(question.text)}"'
    if question.choices:
        text += f" ({', '.join(one_line(each) for each in question.choices)})"
    return text


def answered_text(answer: Answer) -> str:
    """A question that was answered, in one line."""
    who = f", by {one_line(answer.actor)}" if answer.actor is not None else ""
    said = one_line(answer_text(answer))
    return f'"{one_line(answer.question)}" with {said}{who} at {instant_text(answer.at)}'


def how_to_answer(task_id: str) -> str:
    """The command for it."""
    return f"`fleetlog task answer {task_id} TEXT`"
