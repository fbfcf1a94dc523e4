"""The inbox hands over what is there at once after a pause, and holds its reader back when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fleetlog.projections.inbox import BATCH_MAX, INTERVAL_MAX_S, Inbox
from fleetlog.schemas.envelope import Stored

ONE = Stored(1, 0, "s", b"x")


async def test_after_a_pause_it_does_not_wait() -> None:
    inbox = Inbox(interval_s=60)
    await inbox.put([ONE])
    async with asyncio.timeout(5):
        assert (await inbox.take()).messages() == [ONE]


async def test_a_second_piece_waits_for_its_time_or_for_a_full_inbox() -> None:
    inbox = Inbox(interval_s=60)
    await inbox.put([ONE])
    await inbox.take()
    await inbox.put([ONE])
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    await inbox.put([ONE] * BATCH_MAX)
    async with asyncio.timeout(5):
        assert len(await taking) == BATCH_MAX
    assert inbox.take_now().messages() == [ONE]


async def test_while_it_is_behind_only_full_pieces_are_handed_over() -> None:
    inbox = Inbox(interval_s=0, behind_until=BATCH_MAX + 5)
    taking = asyncio.create_task(inbox.take())
    await inbox.put([ONE] * (BATCH_MAX - 1))
    await asyncio.sleep(0)
    assert not taking.done()
    await inbox.put([ONE] * 2)
    async with asyncio.timeout(5):
        assert len(await taking) == BATCH_MAX
        taking = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        assert not taking.done()
        last = Stored(BATCH_MAX + 5, 0, "s", b"x")
        await inbox.put([last])
        assert (await taking).messages() == [ONE, last]


async def test_what_is_finished_is_taken_to_its_end() -> None:
    async def lists() -> AsyncIterator[list[Stored]]:
        yield [ONE] * (BATCH_MAX + 3)

    inbox = Inbox(interval_s=60, behind_until=9)
    filling = asyncio.create_task(inbox.fill(lists()))
    async with asyncio.timeout(5):
        assert [len(await inbox.take()) for _ in range(3)] == [BATCH_MAX, 3, 0]
    await filling


async def test_a_full_inbox_holds_the_reader_back() -> None:
    inbox = Inbox(interval_s=60)
    await inbox.put([Stored(1, 0, "s", bytes(64 << 20))])
    putting = asyncio.create_task(inbox.put([ONE]))
    await asyncio.sleep(0)
    assert not putting.done()
    assert len(inbox.take_now()) == 1
    async with asyncio.timeout(5):
        await putting
    assert inbox.take_now().messages() == [ONE]


async def test_after_a_piece_that_took_long_the_next_one_waits_for_more() -> None:
    inbox = Inbox(interval_s=0.0)
    inbox.pace(60.0)
    await inbox.put([ONE])
    await inbox.take()
    await inbox.put([ONE])
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0.05)
    assert not taking.done()
    await inbox.put([ONE])
    async with asyncio.timeout(INTERVAL_MAX_S * 10):
        assert (await taking).messages() == [ONE, ONE]


async def test_pieces_that_take_no_time_come_at_the_shortest_interval() -> None:
    inbox = Inbox(interval_s=0.01)
    inbox.pace(60.0)
    inbox.pace(0.0)
    for _ in range(20):
        await inbox.put([ONE])
        async with asyncio.timeout(INTERVAL_MAX_S / 2):
            assert (await inbox.take()).messages() == [ONE]


async def test_a_piece_that_someone_waits_for_comes_at_once() -> None:
    inbox = Inbox(interval_s=60)
    await inbox.put([ONE])
    await inbox.take()
    taking = asyncio.create_task(inbox.take())
    inbox.hurry()
    await inbox.put([ONE])
    async with asyncio.timeout(5):
        assert (await taking).messages() == [ONE]


async def test_nobody_hurries_what_is_far_behind() -> None:
    """A small transaction costs as much as a large one: whoever waits would wait longer."""
    inbox = Inbox(interval_s=0, behind_until=9)
    inbox.hurry()
    await inbox.put([ONE])
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    taking.cancel()


async def test_what_is_packed_is_what_came() -> None:
    """Bytes that are no text too: a piece that DuckDB stumbles over is taken apart again."""
    came = [
        Stored(seq, seq, "s.ä", b"\xff{" if seq % 3 else b'{"a":1}') for seq in range(1, 20_000)
    ]
    inbox = Inbox(interval_s=0)
    for start in range(0, len(came), 700):
        await inbox.put(came[start : start + 700])
    batch = inbox.take_now()
    assert (len(batch), batch.last_seq) == (len(came), came[-1].seq)
    assert batch.messages() == came
    assert not inbox.take_now()
