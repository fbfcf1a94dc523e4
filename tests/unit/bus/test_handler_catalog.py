"""What a fleet's log tells of its handlers, and what is refused for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fleetlog.bus.errors import HandlerUnknown
from fleetlog.bus.handler_catalog import HandlerCatalog
from fleetlog.bus.log import Append, entry
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.schemas.envelope import Stored
from fleetlog.schemas.errors import InvalidInput
from fleetlog.schemas.events import AgentStarted, AgentStopped
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject, guard

_numbers = itertools.count()


class CountedLog(MemoryLog):
    """A log that counts what it is asked for, under a clock that a test moves."""

    def __init__(self) -> None:
        super().__init__("main")
        self.asked: list[str] = []
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    async def last(self, subjects: str) -> Stored | None:
        self.asked.append("last")
        return await super().last(subjects)

    async def read(
        self, *, after: int = 0, subjects: str | None = None
    ) -> AsyncIterator[list[Stored]]:
        self.asked.append(f"read after {after}")
        async for page in super().read(after=after, subjects=subjects):
            yield page

    async def start_agent(self, **handlers: dict[str, str]) -> None:
        """An agent with these handlers, each with the types of its arguments."""
        event = AgentStarted(
            id=f"e{next(_numbers)}",
            occurred_at=self.at,
            host="h1",
            pid=1,
            version="0.1.0",
            queues=("default",),
            workers=1,
            concurrency=1,
            handlers={name: _schema(types) for name, types in handlers.items()},
        )
        await self.append(entry(_subject("started"), 0, event))

    async def stop_agent(self) -> None:
        event = AgentStopped(id=f"e{next(_numbers)}", occurred_at=self.at)
        await self.append(entry(_subject("stopped"), 0, event))


@pytest.fixture
def log() -> CountedLog:
    return CountedLog()


@pytest.fixture
def catalog(log: CountedLog) -> HandlerCatalog:
    return HandlerCatalog(log)


def _subject(verb: str) -> Subject:
    return Subject("main", "agent", f"a{next(_numbers)}", verb)


def _schema(types: dict[str, str]) -> msgspec.Raw:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
        "additionalProperties": False,
    }
    return msgspec.Raw(msgspec.json.encode(schema))


def task(handler: str, args: bytes = b"{}", executor: str = "python") -> TaskSpec:
    return TaskSpec(handler=handler, args=msgspec.Raw(args), executor=executor)


async def test_everything_is_accepted_while_no_agent_has_started(catalog: HandlerCatalog) -> None:
    await catalog.check(task("anything"))
    assert catalog.is_empty


async def test_known_handler_with_fitting_arguments_is_accepted(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(check_disk={"host": "string"})
    await catalog.check(task("check_disk", b'{"host": "cube"}'))
    assert not catalog.is_empty


async def test_unknown_handler_is_refused_with_near_names(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(check_disk={}, report={})
    with pytest.raises(HandlerUnknown) as refused:
        await catalog.check(task("chek_disk"))
    assert str(refused.value) == (
        "no agent of this fleet has ever had a handler 'chek_disk'; did you mean check_disk?"
        " Submit it all the same with --unchecked"
    )
    with pytest.raises(HandlerUnknown, match=r"'zzz'; there is check_disk, report\. Submit"):
        await catalog.check(task("zzz"))


async def test_agents_without_handlers_leave_nothing_to_accept(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent()
    with pytest.raises(HandlerUnknown, match=r"; there is none\. Submit"):
        await catalog.check(task("check_disk"))


async def test_wrong_arguments_are_refused_with_their_place(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(check_disk={"host": "string"})
    with pytest.raises(InvalidInput) as refused:
        await catalog.check(task("check_disk", b'{"host": 5}'))
    assert str(refused.value) == (
        "the arguments do not fit handler check_disk: host must be a string, not 5."
        " --unchecked submits them all the same"
    )


async def test_commands_are_not_looked_at(log: CountedLog, catalog: HandlerCatalog) -> None:
    await log.start_agent()
    await catalog.check(task("echo", b'{"argv": ["echo"]}', executor="command"))
    assert log.asked == []


async def test_newest_schema_of_a_handler_counts(log: CountedLog, catalog: HandlerCatalog) -> None:
    await log.start_agent(report={"day": "string"})
    await log.start_agent(report={"day": "integer"})
    await catalog.check(task("report", b'{"day": 5}'))
    with pytest.raises(InvalidInput, match="day must be an integer"):
        await catalog.check(task("report", b'{"day": "5"}'))


async def test_newest_schema_counts_of_older_agents_too(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(report={"day": "string"}, other={"a": "string"})
    await log.start_agent(report={"day": "integer"})
    await log.start_agent(unlike={})
    await catalog.check(task("report", b'{"day": 5}'))
    await catalog.check(task("other", b'{"a": "x"}'))


async def test_handler_of_an_agent_that_stopped_is_known(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(check_disk={})
    await log.stop_agent()
    await catalog.check(task("check_disk"))


async def test_handler_of_long_ago_is_found_and_older_ones_do_not_replace_newer(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(ancient={}, report={"day": "string"})
    for _ in range(1200):
        await log.stop_agent()
    await log.start_agent(report={"day": "integer"})
    await catalog.check(task("ancient"))
    await catalog.check(task("report", b'{"day": 5}'))
    assert log.asked == ["last", "read after 201", "read after 0"]


async def test_one_look_serves_every_later_task(log: CountedLog, catalog: HandlerCatalog) -> None:
    await log.start_agent(check_disk={"host": "string"})
    fits = task("check_disk", b'{"host": "cube"}')
    await asyncio.gather(*(catalog.check(fits) for _ in range(50)))
    await asyncio.gather(*(catalog.check(fits) for _ in range(50)))
    assert log.asked == ["last"]


async def test_nothing_is_refused_on_old_knowledge(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(check_disk={"host": "string"})
    await catalog.check(task("check_disk", b'{"host": "cube"}'))
    await log.start_agent(check_disk={"host": "string", "path": "string"}, late={})
    await catalog.check(task("check_disk", b'{"host": "cube", "path": "/"}'))
    await log.start_agent(later={})
    await catalog.check(task("later"))
    await catalog.check(task("late"))


async def test_that_no_agent_has_started_is_believed_for_a_second(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await catalog.check(task("report"))
    await log.start_agent(check_disk={})
    await catalog.check(task("report"))
    assert log.asked == ["last"]
    log.at += timedelta(seconds=1)
    with pytest.raises(HandlerUnknown):
        await catalog.check(task("report"))


async def test_agent_of_a_newer_release_may_have_any_handler(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    await log.start_agent(check_disk={})
    data = msgspec.json.encode({"type": "agent.started", "id": "e", "v": 99, "handlers": ["new"]})
    subject = "fleetlog.main.agent.a99.started"
    await log.append(Append(subject, guard("main", "agent", "a99"), 0, "e", data))
    await catalog.check(task("anything"))
    await catalog.check(task("check_disk"))
    assert not catalog.is_empty


async def test_schema_that_is_no_json_takes_everything(
    log: CountedLog, catalog: HandlerCatalog
) -> None:
    stamp = '"id": "e", "occurred_at": "2026-01-01T00:00:00Z", "v": 1'
    rest = '"host": "h", "pid": 1, "version": "1", "queues": [], "workers": 1, "concurrency": 1'
    data = f'{{"type": "agent.started", {stamp}, {rest}, "handlers": {{"odd": "\xff"}}}}'
    subject = "fleetlog.main.agent.a1.started"
    await log.append(Append(subject, guard("main", "agent", "a1"), 0, "e", data.encode("latin-1")))
    await catalog.check(task("odd", b'{"a": 1}'))
