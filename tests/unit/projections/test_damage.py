"""A database that is damaged anywhere is set aside, and a new one is built from the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest
from support.stores import empty_store

from fleetlog.bus.errors import ProjectionError, Unavailable
from fleetlog.bus.memory_log import MemoryLog
from fleetlog.projections.digests import Digest
from fleetlog.projections.projector import Projector
from fleetlog.projections.query import SqlRequest, query
from fleetlog.projections.store import open_store
from fleetlog.schemas.envelope import Stored
from tests.unit.projections.histories import FLEET, Log
from tests.unit.projections.loopback import LoopbackServices

TASKS = 400
BLOCK_BYTES = 256 * 1024
HEADERS_BYTES = 3 * 4096


def overwritten(at: int, count: int = 64) -> Callable[[bytes], bytes]:
    return lambda good: good[:at] + b"\xa5" * count + good[at + count :]


def in_every_block(good: bytes) -> bytes:
    for at in range(HEADERS_BYTES, len(good), BLOCK_BYTES):
        good = overwritten(at + 100)(good)
    return good


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"no database at all\n" * 1000,
    "cut in the header": lambda good: good[:100],
    "cut in the middle": lambda good: good[: len(good) // 2],
    "magic": overwritten(8, 4),
    "version": overwritten(12, 8),
    "header": overwritten(4096, 8192),
    "every block": in_every_block,
    **{f"block {n}": overwritten(HEADERS_BYTES + n * BLOCK_BYTES + 100) for n in range(4)},
}


@pytest.fixture(scope="module")
def messages() -> list[Stored]:
    log = Log()
    for number in range(TASKS):
        log.run(f"t{number}")
    return log.messages


@pytest.fixture(scope="module")
def good(messages: list[Stored], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole database of all but the last event."""
    path = tmp_path_factory.mktemp("good") / "projection.duckdb"
    store = empty_store(path, FLEET)
    store.apply(messages[:-1])
    store.close()
    return path.read_bytes()


def digests_of(path: Path, messages: Sequence[Stored] = ()) -> dict[str, Digest]:
    store = open_store(path, FLEET)
    if messages:
        store.apply(messages)
    found = store.digests()
    store.close()
    return found


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_database_is_built_anew_while_it_is_asked(
    damage: Callable[[bytes], bytes],
    good: bytes,
    messages: list[Stored],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "projection.duckdb"
    damaged = damage(good)
    assert damaged[: len(good)] != good
    path.write_bytes(damaged)
    await project(tmp_path, messages)
    assert "from the log" in caplog.text
    assert str(path) + ".broken" in caplog.text
    assert digests_of(path) == digests_of(tmp_path / "alone.duckdb", messages)


WAL_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda whole: whole[:-1],
    "cut in the middle": lambda whole: whole[: len(whole) // 2],
    "empty": lambda _: b"",
    "text": lambda _: b"no log at all\n" * 1000,
    "beginning": overwritten(0),
    "three quarters": lambda whole: overwritten(3 * len(whole) // 4)(whole),
}


@pytest.fixture(scope="module")
def killed(messages: list[Stored], tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A database whose projector was killed: half of it, and the rest in what DuckDB writes ahead."""
    path = tmp_path_factory.mktemp("killed") / "projection.duckdb"
    middle = len(messages) // 2
    store = empty_store(path, FLEET)
    store.apply(messages[:middle])
    store.close()
    store = open_store(path, FLEET)
    for at in range(middle, len(messages) - 1, 50):
        store.apply(messages[at : at + 50])
    wal = path.with_name(path.name + ".wal")
    found = path.read_bytes(), wal.read_bytes()
    store.close()
    assert len(found[1]) > BLOCK_BYTES // 4
    return found


@pytest.mark.parametrize("damage", WAL_DAMAGES.values(), ids=WAL_DAMAGES)
async def test_what_was_written_ahead_and_is_damaged_is_taken_from_the_log(
    damage: Callable[[bytes], bytes],
    killed: tuple[bytes, bytes],
    messages: list[Stored],
    tmp_path: Path,
) -> None:
    path = tmp_path / "projection.duckdb"
    path.write_bytes(killed[0])
    path.with_name(path.name + ".wal").write_bytes(damage(killed[1]))
    await project(tmp_path, messages)
    assert digests_of(path) == digests_of(tmp_path / "alone.duckdb", messages)


async def project(folder: Path, messages: list[Stored]) -> None:
    """A projector goes on with what the folder holds, and is asked meanwhile."""
    log = MemoryLog(FLEET)
    log._messages += messages  # as if other writers had appended them
    services = LoopbackServices()
    projector = Projector(log, folder, services=services)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(projector.run())
        await projector.ready.wait()
        assert await ask_until_answered(services) == b'[{"n":400}]\n'
        projector.stop()


async def ask_until_answered(services: LoopbackServices) -> bytes:
    """What a person does who is told to ask again."""
    request = SqlRequest(sql="SELECT count(*) AS n FROM tasks", is_fresh=True, timeout_s=20.0)
    while True:
        try:
            _, chunks = await query(services, request)
            return b"".join([chunk async for chunk in chunks])
        except (ProjectionError, Unavailable) as error:
            assert "ask again" in str(error) or "nobody serves" in str(error)  # noqa: PT017 - of either
            await asyncio.sleep(0.01)


def test_another_programs_database_in_an_old_format_is_set_aside(
    messages: list[Stored], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "projection.duckdb"
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS old (STORAGE_VERSION 'v1.0.0')")
        connection.execute("CREATE TABLE old.meta AS SELECT 1 AS layout")
    assert digests_of(path, messages) == digests_of(tmp_path / "alone.duckdb", messages)
    assert "could not be opened" in caplog.text
