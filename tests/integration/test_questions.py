"""Tasks that ask a person: they wait on no worker, and their next attempt has the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fleets import agent, coordinator, wait_for
from support.mock_clis import agent_environment, scenario

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import Refused, TaskNotFound
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import TaskReturned
from fleetlog.schemas.questions import ANSWER_MAX_BYTES
from fleetlog.schemas.specs import Backoff, TaskSpec

FAST = Backoff(first_ms=20, max_ms=20)


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def command(script: str, **fields: Any) -> TaskSpec:
    args = msgspec.Raw(msgspec.json.encode({"argv": ["sh", "-c", script]}))
    return TaskSpec(handler="sh", executor="command", args=args, **fields)


async def asked(client: Client, task_id: str, count: int = 1) -> TaskReturned:
    """Waits until it has asked so often, and gives the last time."""
    found = await wait_for(client.fleet, "TaskReturned", count, task_id=task_id)
    event = found[-1].event
    assert isinstance(event, TaskReturned)
    assert event.error_class == "needs_input"
    return event


async def test_a_handler_asks_and_goes_on_with_the_answers(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet):
        task = await client.submit(call("ask", choices=["a", "b"], times=2), max_attempts=1)
        event = await asked(client, task.task_id)
        assert event.question is not None
        assert (event.error, event.question.choices) == ("question 1", ("a", "b"))
        # The one worker is free meanwhile.
        assert (await (await client.submit(call("noop", n=3))).result("20s")).result == 3
        await client.answer(task.task_id, "b", actor="ann")
        await asked(client, task.task_id, 2)
        await client.answer(task.task_id, {"n": [1, None]})
        outcome = await task.result("20s")
    assert (outcome.state, outcome.attempts) == ("completed", 3)
    assert outcome.result == [
        {"n": [1, None]},
        ["question 1", "b", "ann"],
        ["question 2", {"n": [1, None]}, None],
    ]


async def test_an_answer_survives_attempts_that_fail_later(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        spec = msgspec.structs.replace(call("ask_once_and_fail_once"), backoff=FAST)
        task = await client.submit(spec, max_attempts=2)
        await asked(client, task.task_id)
        await client.answer(task.task_id, "yes")
        outcome = await task.result("20s")
    assert outcome.result == "yes 3"


async def test_what_cannot_be_asked_fails_the_attempt(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet):
        task = await client.submit(call("ask_nothing", choices=[]), max_attempts=1)
        outcome = await task.result("20s")
    assert (outcome.state, outcome.error_class) == ("failed", "error")
    assert "a question needs a text" in (outcome.error or "")


@pytest.mark.parametrize("code", [0, 75])
async def test_a_command_asks_by_a_line_and_finds_the_answer(
    server: EmbeddedServer, client: Client, fleet: str, code: int
) -> None:
    line = '{"type": "need_input", "question": "which?"}'
    script = f"""
        if [ -z "${{FLEETLOG_ANSWER+set}}" ]; then echo '{line}'; exit {code}; fi
        echo "$FLEETLOG_ANSWER"; cat
    """
    async with agent(server.target, fleet, app=None):
        task = await client.submit(command(script), max_attempts=1)
        await asked(client, task.task_id)
        await client.answer(task.task_id, "a\0 b", actor="ann")
        outcome = await task.result("20s")
    text, _, document = str(outcome.result).partition("\n")
    assert text == "a b"  # no variable can hold a zero byte, the document can
    [answer] = msgspec.json.decode(document)["answers"]
    assert (answer["question"], answer["answer"], answer["actor"]) == ("which?", "a\0 b", "ann")


@pytest.mark.parametrize(
    ("end", "error_class"),
    [
        ("exit 3", "error"),
        ("exit 65", "permanent"),
        ('echo \'{"type": "result", "status": "error"}\'', "error"),
    ],
)
async def test_a_command_that_fails_asks_nothing(
    server: EmbeddedServer, client: Client, fleet: str, end: str, error_class: str
) -> None:
    line = '{"type": "need_input", "question": "which?"}'
    async with agent(server.target, fleet, app=None):
        task = await client.submit(command(f"echo '{line}'; {end}"), max_attempts=1)
        outcome = await task.result("20s")
    assert (outcome.state, outcome.error_class) == ("failed", error_class)


async def test_of_two_answers_at_once_one_counts_and_the_other_learns_whose(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), open_fleet(server.target, fleet) as opened:
        task = await client.submit(call("ask", choices=[]))
        await asked(client, task.task_id)
        answers = await asyncio.gather(
            client.answer(task.task_id, "ann's", actor="ann"),
            Client(opened).answer(task.task_id, "bob's", actor="bob"),
            return_exceptions=True,
        )
        outcome = await task.result("20s")
    [refused] = [each for each in answers if each is not None]
    assert isinstance(refused, Refused)
    winner = outcome.result[0][:3]
    assert winner in ("ann", "bob")
    assert f"by {winner} at " in str(refused)


async def test_only_what_is_asked_is_answered(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    with pytest.raises(TaskNotFound):
        await client.answer("nobody", "yes")
    waiting = await client.submit(call("noop"))
    with pytest.raises(Refused, match="asks nothing: it is queued"):
        await client.answer(waiting.task_id, "yes")
    async with agent(server.target, fleet):
        task = await client.submit(call("ask", choices=["a", "b"]))
        await asked(client, task.task_id)
        end = await client.fleet.log.end()
        with pytest.raises(InvalidInput, match="one of a, b"):
            await client.answer(task.task_id, "c")
        for wrong in ("x" * ANSWER_MAX_BYTES, object(), float("nan")):
            with pytest.raises(InvalidInput, match="the answer"):
                await client.answer(task.task_id, wrong)
        assert await client.fleet.log.end() == end
        await client.answer(task.task_id, "a")
        await task.result("20s")
        with pytest.raises(
            Refused, match=r"it is completed; the last question was answered 'a' at"
        ):
            await client.answer(task.task_id, "a")


async def test_one_that_is_not_answered_expires_and_one_can_be_cancelled(
    server: EmbeddedServer, client: Client, fleet: str
) -> None:
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        late = await client.submit(call("ask", choices=[]), expires="1500ms")
        called_off = await client.submit(call("ask", choices=[]))
        await asked(client, called_off.task_id)
        await called_off.cancel()
        outcomes = [await each.result("20s") for each in (late, called_off)]
    assert [(each.state, each.attempts) for each in outcomes] == [("expired", 1), ("cancelled", 1)]


async def test_the_session_of_an_agent_cli_goes_on_with_the_answer(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    environ = agent_environment(tmp_path)
    async with agent(server.target, fleet, app=None, environ=environ):
        there = await client.submit(scenario("ask"), max_attempts=1)
        gone = await client.submit(scenario("ask", env={"MOCK_NO_SESSIONS": "1"}), max_attempts=1)
        for task in (there, gone):
            event = await asked(client, task.task_id)
            assert event.question is not None
            assert (event.error, event.question.choices) == ("Which branch?", ("main", "dev"))
            await client.answer(task.task_id, "main")
        outcomes = [await each.result("40s") for each in (there, gone)]
    # The prompt is the answer where the session is there; else a new one is told everything.
    assert [each.result for each in outcomes] == ["answer to 4 characters", "told main"]
    sessions = [
        {end.event.session_id for end in (await client.get(each.task_id)).events if is_end(end)}
        for each in (there, gone)
    ]
    assert [len(each) for each in sessions] == [1, 2]


def is_end(record: Any) -> bool:
    return type(record.event).__name__ in ("TaskReturned", "TaskCompleted")
