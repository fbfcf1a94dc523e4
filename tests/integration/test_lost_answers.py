"""What is known when the server's answer never comes: only what the log itself says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from support.proxy import Proxy

from fleetlog.bus.background import background
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConflictError
from fleetlog.bus.jetstream import appender
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.jetstream.log import JetStreamLog
from fleetlog.bus.jetstream.streams import ensure_streams
from fleetlog.bus.log import Append, entry
from fleetlog.bus.system import System
from fleetlog.schemas.events import TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject

SYSTEM = System()


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.target).running() as running:
        yield running


@pytest.fixture(params=[False, True], ids=["singles", "groups"])
async def log(
    request: pytest.FixtureRequest, proxy: Proxy, fleet: str
) -> AsyncIterator[JetStreamLog]:
    async with connect(proxy.target, SYSTEM.clock) as connection:
        await ensure_streams(connection, fleet)
        real = JetStreamLog(connection, fleet, is_grouping=request.param)
        await real.appender.start()
        await real.together.start()
        async with background(real.appender.watch()):
            yield real


def queued(log: JetStreamLog, task_id: str) -> Append:
    event = TaskQueued(
        id=SYSTEM.new_id(), occurred_at=log.now(), spec=TaskSpec(handler="h"), digest="d"
    )
    return entry(Subject(log.fleet, "task", task_id, "queued", "default", "normal"), 0, event)


def lose_requests(proxy: Proxy, marker: bytes) -> None:
    """The next message with `marker` in it is lost together with its connection, before the server has it."""

    def upstream(chunk: bytes) -> bytes | None:
        if marker in chunk:
            proxy.upstream = lambda later: later
            return None
        return chunk

    proxy.upstream = upstream


def lose_answers(proxy: Proxy, marker: bytes) -> None:
    """The next message with `marker` in it reaches the server; its answer and the connection are lost."""

    def upstream(chunk: bytes) -> bytes:
        if marker in chunk:
            proxy.upstream = lambda later: later
            proxy.downstream = downstream
        return chunk

    def downstream(chunk: bytes) -> bytes | None:
        proxy.downstream = lambda later: later
        return None

    proxy.upstream = upstream


async def append_many(log: JetStreamLog, entries: list[Append]) -> list[int | BaseException]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*[log.append(each) for each in entries], return_exceptions=True)


@pytest.mark.parametrize("count", [1, 100])
async def test_an_append_lost_before_the_store_is_sent_again(
    proxy: Proxy, log: JetStreamLog, count: int
) -> None:
    lose_requests(proxy, b".task.lost-")
    answers = await append_many(log, [queued(log, f"lost-{n}") for n in range(count)])
    assert sorted(answers) == list(range(1, count + 1))
    assert proxy.connections == 2
    assert await log.end() == count


@pytest.mark.parametrize("count", [1, 100])
async def test_an_append_whose_answer_is_lost_is_found_in_the_log_and_stored_once(
    proxy: Proxy, log: JetStreamLog, count: int
) -> None:
    lose_answers(proxy, b".task.lost-")
    answers = await append_many(log, [queued(log, f"lost-{n}") for n in range(count)])
    assert sorted(answers) == list(range(1, count + 1))
    assert proxy.connections == 2
    assert await log.end() == count


async def test_an_append_whose_answer_is_lost_may_find_another_writer_in_its_place(
    proxy: Proxy, log: JetStreamLog, server: EmbeddedServer
) -> None:
    """The request is lost, and before it can be sent again someone else takes the place."""
    ours, theirs = queued(log, "lost-race"), queued(log, "lost-race")
    taken = asyncio.Event()

    async def take() -> None:
        async with connect(server.target, SYSTEM.clock) as connection:
            other = JetStreamLog(connection, log.fleet, is_grouping=False)
            await other.appender.start()
            async with background(other.appender.watch()):
                await other.append(theirs)
        taken.set()

    async with asyncio.TaskGroup() as group:

        def upstream(chunk: bytes) -> bytes | None:
            if b"lost-race" in chunk and not taken.is_set():
                group.create_task(take())
                proxy.upstream = lambda later: later if taken.is_set() else None
                return None
            return chunk

        proxy.upstream = upstream
        with pytest.raises(ConflictError):
            async with asyncio.timeout(30):
                await log.append(ours)
    assert (await log.get(1)).data == theirs.data  # type: ignore[union-attr]


async def test_an_append_that_gets_no_answer_at_all_is_sent_again(
    proxy: Proxy, log: JetStreamLog
) -> None:
    """The answer alone is lost and the connection lives: nothing but patience tells."""
    swallowed = asyncio.Event()

    def upstream(chunk: bytes) -> bytes:
        if b".task.lost-" in chunk:
            proxy.upstream = lambda later: later
            proxy.downstream = downstream
        return chunk

    def downstream(chunk: bytes) -> bytes:
        proxy.downstream = lambda later: later
        swallowed.set()
        return b""

    proxy.upstream = upstream
    async with asyncio.timeout(30):
        assert await log.append(queued(log, "lost-1")) == 1
    assert swallowed.is_set()
    assert proxy.connections == 1
    assert await log.end() == 1


async def test_a_server_that_answers_no_append_is_spoken_of(
    log: JetStreamLog,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(appender, "ANSWER_TIMEOUT_S", 0.2)
    lost = asyncio.Event()

    def upstream(chunk: bytes) -> bytes | None:
        # The append alone vanishes: the connection itself stays healthy.
        if b"HPUB" not in chunk:
            return chunk
        lost.set()
        return b""

    proxy.upstream = upstream
    appending = log.append(queued(log, "t1"))
    async with asyncio.timeout(20):
        await lost.wait()
        while "answered no append" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
            await asyncio.sleep(0.02)
        proxy.upstream = lambda chunk: chunk
        await appending
    assert caplog.text.count("answered no append") == 1


@pytest.mark.parametrize("lose", [lose_requests, lose_answers])
async def test_what_is_appended_together_is_stored_once_whatever_is_lost(
    proxy: Proxy, log: JetStreamLog, lose: Callable[[Proxy, bytes], None]
) -> None:
    lose(proxy, b".task.lost-")
    async with asyncio.timeout(30):
        seq = await log.append_together([queued(log, f"lost-{n}") for n in range(50)])
    assert seq == 50
    assert proxy.connections == 2
    assert await log.end() == 50


async def test_what_is_appended_together_half_of_it_lost_is_stored_once(
    proxy: Proxy, log: JetStreamLog
) -> None:
    """The connection breaks in the midst of the batch, which the server then forgets."""
    lose_requests(proxy, b".task.lost-40.")
    async with asyncio.timeout(30):
        seq = await log.append_together([queued(log, f"lost-{n}") for n in range(50)])
    assert seq == 50
    assert await log.end() == 50
