"""The wire: what is sent arrives in order, in few frames, and nonsense ends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetlog.agents.frames import (
    MESSAGE_BYTES_MAX,
    Alive,
    Done,
    Exit,
    Failed,
    Run,
    Stop,
    Stopped,
    Succeeded,
    ToSupervisor,
    ToWorker,
    clip,
    to_supervisor_decoder,
    to_worker_decoder,
)
from fleetlog.agents.wire import FrameTooLarge, Wire, connect


class End:
    """One end of a pair."""

    def __init__(self, decoder: Any) -> None:
        self.messages: list[ToWorker | ToSupervisor] = []
        self.frames = 0
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._came = asyncio.Event()
        self.wire: Wire[Any] = Wire(decoder, self._hear, self.lost.set_result)

    def _hear(self, messages: list[ToWorker | ToSupervisor]) -> None:
        self.frames += 1
        self.messages += messages
        self._came.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._came.clear()
                await self._came.wait()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    supervisor, worker = End(to_supervisor_decoder), End(to_worker_decoder)
    ours, theirs = socket.socketpair()
    await connect(ours, supervisor.wire)
    await connect(theirs, worker.wire)
    yield supervisor, worker
    supervisor.wire.close()
    worker.wire.close()
    await asyncio.gather(supervisor.lost, worker.lost)


async def test_what_one_turn_sends_arrives_in_order_as_one_frame(ends: tuple[End, End]) -> None:
    supervisor, worker = ends
    stops = [Stop(number, "cancel") for number in range(100)]
    for stop in stops:
        supervisor.wire.send(stop)
    supervisor.wire.send(Exit())
    await worker.until(101)
    assert worker.messages == [*stops, Exit()]
    assert worker.frames == 1


async def test_a_turn_that_sends_much_does_not_hold_back_its_first_messages(
    ends: tuple[End, End],
) -> None:
    supervisor, worker = ends
    stops = [Stop(number, "cancel") for number in range(10_000)]
    for stop in stops:
        supervisor.wire.send(stop)
    await worker.until(10_000)
    assert worker.messages == stops
    assert 10 < worker.frames < 1000


async def test_messages_sent_before_the_connection_stands_are_kept() -> None:
    first, second = End(to_supervisor_decoder), End(to_worker_decoder)
    first.wire.send(Exit())
    await asyncio.sleep(0)
    ours, theirs = socket.socketpair()
    await connect(ours, first.wire)
    await connect(theirs, second.wire)
    await second.until(1)
    await first.wire.wait_closed()
    assert await second.lost


async def test_a_message_over_the_limit_is_refused_and_the_others_arrive(
    ends: tuple[End, End],
) -> None:
    supervisor, worker = ends
    worker.wire.send(Alive(1))
    with pytest.raises(FrameTooLarge, match=r"Done message has 16777\d\d\d bytes"):
        worker.wire.send(Done(1, Succeeded(bytes(MESSAGE_BYTES_MAX)), 0))
    worker.wire.send(Alive(2))
    await supervisor.until(2)
    assert supervisor.messages == [Alive(1), Alive(2)]


async def test_a_large_message_arrives_through_a_small_socket_buffer(ends: tuple[End, End]) -> None:
    supervisor, worker = ends
    done = Done(1, Succeeded(bytes(8 * 1024 * 1024)), 5)
    worker.wire.send(done)
    await worker.wire.drain()
    await supervisor.until(1)
    assert supervisor.messages == [done]


async def test_drain_waits_for_a_reader_that_has_paused(ends: tuple[End, End]) -> None:
    supervisor, worker = ends
    supervisor.wire.pause_reading()
    worker.wire.send(Done(1, Succeeded(bytes(4 * 1024 * 1024)), 5))
    worker.wire.flush()
    draining = asyncio.ensure_future(worker.wire.drain())
    await asyncio.sleep(0.05)
    assert not draining.done()
    supervisor.wire.resume_reading()
    await draining
    await supervisor.until(1)


async def test_a_broken_frame_ends_the_connection_and_says_why() -> None:
    end = End(to_worker_decoder)
    ours, theirs = socket.socketpair()
    await connect(ours, end.wire)
    with theirs:
        theirs.sendall((3).to_bytes(4, "big") + b"abc")
        assert "cannot be read" in await end.lost


async def test_a_frame_that_claims_to_be_huge_ends_the_connection() -> None:
    end = End(to_worker_decoder)
    ours, theirs = socket.socketpair()
    await connect(ours, end.wire)
    with theirs:
        theirs.sendall((2**31).to_bytes(4, "big"))
        assert "at most" in await end.lost


async def test_sending_on_a_lost_wire_does_nothing() -> None:
    end = End(to_worker_decoder)
    ours, theirs = socket.socketpair()
    await connect(ours, end.wire)
    theirs.close()
    assert await end.lost == "the other end closed the connection"
    end.wire.send(Exit())
    end.wire.flush()
    await end.wire.drain()


@given(data=st.binary(max_size=300), cut=st.integers(1, 50))
@settings(max_examples=30, deadline=None)
def test_frames_survive_any_cut_of_the_stream(data: bytes, cut: int) -> None:
    async def scenario() -> None:
        end, sender = End(to_worker_decoder), End(to_supervisor_decoder)
        ours, theirs = socket.socketpair()
        await connect(ours, sender.wire)
        run = Run(
            run_id=1, task_id="t", attempt=1, fence=7, executor="python", handler="h", args=data
        )
        sender.wire.send(run)
        sender.wire.flush()
        await sender.wire.wait_closed()
        with theirs:
            stream = theirs.recv(65536)
        for start in range(0, len(stream), cut):
            end.wire.data_received(stream[start : start + cut])
        assert end.messages == [run]

    asyncio.run(scenario())


def test_outcomes_survive_the_wire() -> None:
    done = Done(3, Failed("error", "no", is_permanent=True, delay_ms=5), 12, exit_code=-9)
    assert to_supervisor_decoder.decode(_packed(done)) == [done]
    assert to_supervisor_decoder.decode(_packed(Done(1, Stopped(), 0))) == [Done(1, Stopped(), 0)]


def _packed(message: ToSupervisor) -> bytes:
    import msgspec

    return msgspec.msgpack.encode([message])


@given(st.text(), st.integers(20, 100))
def test_clipped_text_fits_and_keeps_both_ends(text: str, max_bytes: int) -> None:
    clipped = clip(text, max_bytes)
    assert len(clipped.encode()) <= max_bytes
    if len(text.encode("utf-8", "replace")) <= max_bytes:
        assert clipped == text


def test_text_with_lone_surrogates_is_made_sendable() -> None:
    assert clip("a\ud800b") == "a?b"
