"""The projector keeps up with the log, answers about it, and stops without losing what it has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.stores import empty_store

from fleetlog.bus.errors import LogRewound, ProjectionError, Unavailable
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.projections.digests import Digest
from fleetlog.projections.projector import Projector
from fleetlog.projections.query import SqlRequest, query
from fleetlog.projections.rebuild_service import request_rebuild
from fleetlog.projections.store import open_store
from fleetlog.schemas.beats import Beat, StoredBeat
from fleetlog.schemas.envelope import Stored
from fleetlog.schemas.errors import InvalidInput
from tests.unit.projections.histories import FLEET, Log
from tests.unit.projections.loopback import LoopbackBeats, LoopbackServices


def log_of(messages: list[Stored]) -> MemoryLog:
    """A log that holds exactly these messages."""
    log = MemoryLog(FLEET)
    extend(log, messages)
    return log


def extend(log: MemoryLog, messages: list[Stored]) -> None:
    log._messages += messages  # as if other writers had appended them
    log._grown.set()
    log._grown = asyncio.Event()


def history(tasks: int) -> Log:
    log = Log()
    for number in range(tasks):
        log.run(f"t{number}")
    return log


@asynccontextmanager
async def running(projector: Projector) -> AsyncIterator[Projector]:
    run = asyncio.create_task(projector.run())
    ready = asyncio.create_task(projector.ready.wait())
    await asyncio.wait([run, ready], return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        if not run.done():
            yield projector
    finally:
        projector.stop()
        await run


async def ask(services: LoopbackServices, sql: str = "", **fields: Any) -> list[dict[str, Any]]:
    _, chunks = await query(services, SqlRequest(sql=sql, **fields))
    rows: list[dict[str, Any]] = json.loads(b"".join([chunk async for chunk in chunks]))
    return rows


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def digests_of(folder: Path) -> dict[str, Digest]:
    store = open_store(folder / "projection.duckdb", FLEET)
    try:
        return store.digests()
    finally:
        store.close()


async def test_it_catches_up_and_follows(tmp_path: Path) -> None:
    whole = history(10).messages
    log = log_of(whole[:12])
    async with running(Projector(log, tmp_path)) as projector:
        await projector.reached(12)
        extend(log, whole[12:])
        await projector.reached(30)
        assert projector.checkpoint == 30
    assert digests_of(tmp_path)["tasks"].rows == 10


async def test_it_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = history(10).messages
    async with running(Projector(log_of(whole[:12]), tmp_path)) as projector:
        await projector.reached(12)
    async with running(Projector(log_of(whole), tmp_path)) as projector:
        assert projector.checkpoint >= 12
        await projector.reached(30)
    alone = tmp_path / "alone"
    async with running(Projector(log_of(whole), alone)) as projector:
        await projector.reached(30)
    assert digests_of(tmp_path) == digests_of(alone)


async def test_cancelling_it_commits_what_it_has_read(tmp_path: Path) -> None:
    projector = Projector(log_of(history(10).messages), tmp_path)
    run = asyncio.create_task(projector.run())
    await projector.ready.wait()
    await projector.reached(30)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not (tmp_path / "projection.duckdb.wal").exists()
    assert digests_of(tmp_path)["events"].rows == 30


async def test_a_fresh_answer_holds_everything_that_is_in_the_log(tmp_path: Path) -> None:
    services = LoopbackServices()
    whole = history(10).messages
    log = log_of(whole[:6])
    async with running(Projector(log, tmp_path, services=services)):
        for end in range(7, 31, 8):
            extend(log, whole[len(log._messages) : end])
            header, _ = await query(services, SqlRequest(sql="SELECT 1", is_fresh=True))
            assert header.seq == end
    with pytest.raises(Unavailable):
        await query(services, SqlRequest(sql="SELECT 1"))


async def test_a_snapshot_is_used_again_while_nothing_changed(tmp_path: Path) -> None:
    services = LoopbackServices()
    async with running(Projector(log_of(history(3).messages), tmp_path, services=services)):
        first, _ = await query(services, SqlRequest(sql="SELECT 1", is_fresh=True))
        second, _ = await query(services, SqlRequest(sql="SELECT 2", is_fresh=True))
    assert first.snapshot_at == second.snapshot_at


async def test_many_queries_at_once_are_all_answered(tmp_path: Path) -> None:
    services = LoopbackServices()
    async with running(Projector(log_of(history(3).messages), tmp_path, services=services)):
        asked = [ask(services, f"SELECT {n} AS n", is_fresh=True) for n in range(6)]
        assert await asyncio.gather(*asked) == [[{"n": n}] for n in range(6)]
        assert names_in(tmp_path / "queries") == []


async def test_large_answers_come_in_chunks(tmp_path: Path) -> None:
    services = LoopbackServices()
    async with running(Projector(log_of([]), tmp_path, services=services)):
        request = SqlRequest(sql="SELECT repeat('x', 1000) FROM range(2000)", format="rows")
        header, chunks = await query(services, request)
        sizes = [len(chunk) async for chunk in chunks]
    assert sum(sizes) == header.size_bytes > 2_000_000
    assert max(sizes) == 512 * 1024


async def test_what_is_wrong_with_a_query_is_said(tmp_path: Path) -> None:
    services = LoopbackServices()
    async with running(Projector(log_of([]), tmp_path, services=services)):
        with pytest.raises(InvalidInput, match="Did you mean"):
            await ask(services, "FROM taskz")
        with pytest.raises(InvalidInput, match="cannot be read"):
            async for _ in services.request("sql", b'{"format":"xml"}'):
                pass


async def test_heartbeats_are_kept_beside_the_log(tmp_path: Path) -> None:
    beats, services = LoopbackBeats(), LoopbackServices()
    stamp = datetime(2026, 1, 1, tzinfo=UTC)
    heard = [StoredBeat(stamp, Beat(agent_id="a1", host="h", occurred_at=stamp))]
    async with running(Projector(log_of([]), tmp_path, beats=beats, services=services)):
        await beats.heard.put(heard)
        async with asyncio.timeout(20):
            while await ask(services, "SELECT agent_id FROM heartbeats") != [{"agent_id": "a1"}]:
                pass


async def test_a_rebuild_gives_the_same_rows(tmp_path: Path) -> None:
    log = log_of(history(40).messages)
    async with running(Projector(log, tmp_path)) as projector:
        await projector.reached(120)
    before = digests_of(tmp_path)
    async with running(Projector(log, tmp_path, is_rebuild=True)) as projector:
        assert projector.checkpoint == 120
    assert digests_of(tmp_path) == before
    assert names_in(tmp_path) == ["projection.duckdb"]


async def test_a_rebuild_replaces_rows_that_are_wrong(tmp_path: Path) -> None:
    log = log_of(history(5).messages)
    async with running(Projector(log, tmp_path)) as projector:
        await projector.reached(15)
    right = digests_of(tmp_path)
    store = open_store(tmp_path / "projection.duckdb", FLEET)
    store._connection.execute("DELETE FROM store.settled_tasks")
    store.close()
    assert digests_of(tmp_path)["tasks"] != right["tasks"]
    async with running(Projector(log, tmp_path, is_rebuild=True)):
        pass
    assert digests_of(tmp_path) == right


async def test_a_running_projector_rebuilds_when_asked(tmp_path: Path) -> None:
    log, services = log_of(history(40).messages), LoopbackServices()
    async with running(Projector(log, tmp_path, services=services)) as projector:
        await projector.reached(120)
        projector._opened()._connection.execute("DELETE FROM store.settled_tasks")
        whole = history(50).messages
        seqs = []
        async for seq in request_rebuild(services):
            seqs.append(seq)
            extend(log, whole[len(log._messages) :])
        assert seqs[-1] >= 120
        found = await ask(services, "SELECT count(*) AS n FROM tasks", is_fresh=True)
        assert found == [{"n": 50}]
        assert projector.checkpoint == 150
    right = empty_store(tmp_path / "right.duckdb", FLEET)
    right.apply(whole)
    assert digests_of(tmp_path) == right.digests()
    right.close()


async def test_two_who_ask_for_a_rebuild_follow_the_same_one(tmp_path: Path) -> None:
    log, services = log_of(history(3).messages), LoopbackServices()
    async with running(Projector(log, tmp_path, services=services)):
        asked = [_all(request_rebuild(services)) for _ in range(2)]
        assert await asyncio.gather(*asked) == [[9], [9]]


async def test_stopping_ends_a_rebuild_and_keeps_the_old_database(tmp_path: Path) -> None:
    class Endless(MemoryLog):
        async def read(self, *, after: int = 0, subjects: str | None = None) -> Any:
            yield self._messages
            await asyncio.Event().wait()

    log, services = Endless(FLEET), LoopbackServices()
    extend(log, history(3).messages)
    async with running(Projector(log, tmp_path, services=services)) as projector:
        await projector.reached(9)
        following = request_rebuild(services)
        assert await anext(following) == 9
        projector.stop()
        with pytest.raises(ProjectionError, match="stopped during the rebuild"):
            await anext(following)
    assert digests_of(tmp_path)["events"].rows == 9


async def test_a_rebuild_that_fails_leaves_the_old_database(tmp_path: Path) -> None:
    class Broken(MemoryLog):
        async def read(self, *, after: int = 0, subjects: str | None = None) -> Any:
            yield self._messages
            raise Unavailable("gone")

    log, services = Broken(FLEET), LoopbackServices()
    extend(log, history(3).messages)
    async with running(Projector(log, tmp_path, services=services)):
        with pytest.raises(Unavailable, match="gone"):
            await _all(request_rebuild(services))
        found = await ask(services, "SELECT count(*) AS n FROM tasks", is_fresh=True)
        assert found == [{"n": 3}]


async def _all(seqs: AsyncIterator[int]) -> list[int]:
    return [seq async for seq in seqs]


@pytest.mark.parametrize("why", ["the log ends at 12", "was built from another log"])
async def test_a_projection_of_another_log_is_built_anew(
    tmp_path: Path, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = history(10).messages
    async with running(Projector(log_of(whole), tmp_path)) as projector:
        await projector.reached(30)
    other = whole[:12] if "ends" in why else [_later(message) for message in whole]
    async with running(Projector(log_of(other), tmp_path)) as projector:
        await projector.reached(other[-1].seq)
    assert why in caplog.text
    alone = empty_store(tmp_path / "alone.duckdb", FLEET)
    alone.apply(other)
    assert digests_of(tmp_path) == alone.digests()
    alone.close()


def _later(message: Stored) -> Stored:
    return Stored(message.seq, message.stored_at_ns + 1_000, message.subject, message.data)


async def test_a_log_that_breaks_off_ends_the_projector_with_its_error(tmp_path: Path) -> None:
    class Broken(MemoryLog):
        async def follow(self, *, after: int = 0, subjects: str | None = None) -> Any:
            yield history(1).messages
            raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        await Projector(Broken(FLEET), tmp_path).run()
    assert digests_of(tmp_path)["events"].rows == 3


async def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectionError, match="--data"):
        await Projector(log_of([]), tmp_path / "file").run()


async def test_a_projector_whose_log_was_rewound_begins_anew(tmp_path: Path) -> None:
    whole = history(2).messages

    class Rewound(MemoryLog):
        """Loses its second task once that was followed, and gets another one."""

        is_rewound = False

        async def follow(self, *, after: int = 0, subjects: str | None = None) -> Any:
            if self.is_rewound:
                async for page in super().follow(after=after, subjects=subjects):
                    yield page
            self.is_rewound = True
            yield whole
            await projector.reached(6)
            raise LogRewound("the log does not hold event 6 any more")

    log = Rewound(FLEET)
    extend(log, whole[:3])
    projector = Projector(log, tmp_path)
    async with running(projector):
        while projector.checkpoint != 3:
            await projector._moved.wait()
    assert digests_of(tmp_path)["tasks"].rows == 1
