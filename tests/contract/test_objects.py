"""One suite for every implementation of `Objects`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from support.clusters import Cluster

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ObjectLost
from fleetlog.bus.fleet import Fleet, open_fleet
from fleetlog.bus.objects import CHUNK_BYTES, MemoryObjects, Objects, ref_of
from fleetlog.schemas.objects import ObjectRef
from fleetlog.schemas.subjects import object_bucket, object_stream

Damage = Callable[[ObjectRef, str], Awaitable[None]]


class Subject(msgspec.Struct, frozen=True):
    objects: Objects
    damage: Damage
    """Takes a chunk out, changes a byte, or adds one: what a broken disk or a careless hand may do."""


@pytest.fixture(params=["memory", "nats", "three replicas"])
async def subject(
    request: pytest.FixtureRequest, fleet: str, server: EmbeddedServer, cluster: Cluster
) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryObjects()
        yield Subject(memory, lambda ref, how: _damage_memory(memory, ref, how))
        return
    if request.param == "three replicas":
        await cluster.make_streams(fleet)
    target = server.target if request.param == "nats" else cluster.target
    async with open_fleet(target, fleet) as opened:
        yield Subject(opened.objects, lambda ref, how: _damage_nats(opened, ref, how))


@pytest.fixture
def objects(subject: Subject) -> Objects:
    return subject.objects


async def _damage_memory(memory: MemoryObjects, ref: ObjectRef, how: str) -> None:
    whole = memory.held[ref.sha256]
    match how:
        case "shorter":
            memory.held[ref.sha256] = whole[:-1]
        case "longer":
            memory.held[ref.sha256] = whole + b"!"
        case _:
            memory.held[ref.sha256] = b"!" + whole[1:]


async def _damage_nats(fleet: Fleet, ref: ObjectRef, how: str) -> None:
    js = fleet.link.client.jetstream()
    store = await js.object_store(object_bucket(fleet.name))
    info = await store.get_info(ref.sha256)
    chunks = f"$O.{object_bucket(fleet.name)}.C.{info.nuid}"
    if how == "longer":
        # The description counts one more chunk than before.
        await js.publish(chunks, b"!")
        text = msgspec.json.decode(
            (await js.get_last_msg(object_stream(fleet.name), _meta(fleet, ref))).data or b""
        )
        text["chunks"] += 1
        await js.publish(_meta(fleet, ref), msgspec.json.encode(text))
        return
    last = await js.get_last_msg(object_stream(fleet.name), chunks)
    await js.delete_msg(object_stream(fleet.name), last.seq or 0)
    if how == "changed":
        await js.publish(chunks, b"!" + (last.data or b"")[1:])


def _meta(fleet: Fleet, ref: ObjectRef) -> str:
    from base64 import urlsafe_b64encode

    return f"$O.{object_bucket(fleet.name)}.M.{urlsafe_b64encode(ref.sha256.encode()).decode()}"


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
)
async def test_an_object_is_read_back_as_it_was_stored(objects: Objects, size: int) -> None:
    data = bytes(n * 7 % 251 for n in range(size))
    ref = await objects.put(data)
    assert ref == ref_of(data)
    assert await objects.get(ref) == data
    assert b"".join([piece async for piece in objects.read(ref)]) == data


async def test_a_file_is_stored_from_its_start(objects: Objects, tmp_path: Path) -> None:
    data = b"0123456789" * 40_000
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        file.seek(5)
        ref = await objects.put(file)
    assert ref == ref_of(data)
    assert await objects.get(ref) == data


async def test_the_same_bytes_are_the_same_object_whoever_stores_them(objects: Objects) -> None:
    data = b"same" * 50_000
    refs = await asyncio.gather(*(objects.put(data) for _ in range(4)))
    assert set(map(msgspec.json.encode, refs)) == {msgspec.json.encode(ref_of(data))}
    assert await objects.put(data) == ref_of(data)
    assert await objects.get(ref_of(data)) == data


async def test_an_object_that_is_not_there_is_lost(objects: Objects) -> None:
    with pytest.raises(ObjectLost, match="no object"):
        await objects.get(ref_of(b"never stored"))


async def test_a_reference_with_another_size_does_not_fit(objects: Objects) -> None:
    ref = await objects.put(b"seven b")
    for size in (6, 8):
        with pytest.raises(ObjectLost, match="damaged"):
            await objects.get(msgspec.structs.replace(ref, size=size))


@pytest.mark.parametrize("how", ["shorter", "longer", "changed"])
async def test_a_damaged_object_is_never_given_as_whole(subject: Subject, how: str) -> None:
    ref = await subject.objects.put(bytes(CHUNK_BYTES + 10))
    await subject.damage(ref, how)
    with pytest.raises(ObjectLost, match="damaged"):
        await subject.objects.get(ref)
    with pytest.raises(ObjectLost, match="damaged"):
        _ = [piece async for piece in subject.objects.read(ref)]


async def test_a_deleted_object_is_lost_and_can_be_stored_again(objects: Objects) -> None:
    data = b"for a while"
    ref = await objects.put(data)
    await objects.delete(ref)
    await objects.delete(ref)
    with pytest.raises(ObjectLost):
        await objects.get(ref)
    await objects.put(data)
    assert await objects.get(ref) == data


async def test_a_file_that_changes_while_it_is_stored_is_not_stored(objects: Objects) -> None:
    class Growing(io.BytesIO):
        """Something else each time it is read from its start."""

        starts = 0

        def seek(self, offset: int, whence: int = 0, /) -> int:
            if whence == io.SEEK_SET and offset == 0:
                self.starts += 1
                if self.starts == 2:
                    super().seek(0, io.SEEK_END)
                    self.write(b"more")
            return super().seek(offset, whence)

    if isinstance(objects, MemoryObjects):
        pytest.skip("the memory reads a file once")
    file = Growing(b"some")
    with pytest.raises(ObjectLost, match="changed"):
        await objects.put(file)
    with pytest.raises(ObjectLost):
        await objects.get(ref_of(b"some"))


@pytest.mark.parametrize("size", [0, 10, 3 * CHUNK_BYTES])
async def test_what_is_saved_under_a_name_replaces_what_it_had(objects: Objects, size: int) -> None:
    assert await objects.load("a-name") is None
    await objects.save("a-name", b"before" * 50_000)
    await objects.save("another", b"other")
    data = bytes(n * 7 % 251 for n in range(size))
    await objects.save("a-name", data)
    assert await objects.load("a-name") == data
    assert await objects.load("another") == b"other"
