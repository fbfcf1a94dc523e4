"""One suite for every implementation of `EventLog`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fleetlog.bus.errors import ConflictError
from fleetlog.bus.log import Append, EventLog, entry
from fleetlog.bus.system import System
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import TaskCancelRequested, TaskQueued
from fleetlog.schemas.specs import TaskSpec
from fleetlog.schemas.subjects import Subject, everything, guard, tasks

SYSTEM = System()


def queued(log: EventLog, task_id: str, *, expected: int = 0, queue: str = "default") -> Append:
    event = TaskQueued(
        id=SYSTEM.new_id(),
        occurred_at=log.now(),
        spec=TaskSpec(handler="h", queue=queue),
        digest="d",
    )
    return entry(Subject(log.fleet, "task", task_id, "queued", queue, "normal"), expected, event)


def cancel_requested(log: EventLog, task_id: str, expected: int) -> Append:
    event = TaskCancelRequested(id=SYSTEM.new_id(), occurred_at=log.now())
    subject = Subject(log.fleet, "task", task_id, "cancel_requested", "default", "normal")
    return entry(subject, expected, event)


async def collect(pages: AsyncIterator[list[Stored]]) -> list[Stored]:
    return [stored async for page in pages for stored in page]


async def settle(futures: list[object]) -> list[object]:
    return await asyncio.gather(*futures, return_exceptions=True)  # type: ignore[call-overload]


async def test_an_appended_event_is_read_back_as_it_was_written(log: EventLog) -> None:
    wanted = queued(log, "a")
    seq = await log.append(wanted)
    stored = await log.get(seq)
    assert stored is not None
    assert (stored.seq, stored.subject, stored.data) == (seq, wanted.subject, wanted.data)
    assert await log.last(wanted.guard) == stored
    assert await log.read_thing(wanted.guard) == [stored]
    assert await collect(log.read()) == [stored]
    assert abs((stored.stored_at - log.now()).total_seconds()) < 5


async def test_an_empty_log_reads_as_empty(log: EventLog) -> None:
    assert await collect(log.read()) == []
    assert await log.end() == 0
    assert await log.get(1) is None
    assert await log.last(everything(log.fleet)) is None
    assert await log.read_thing(guard(log.fleet, "task", "nobody")) == []


async def test_of_many_first_appends_to_one_thing_one_wins(log: EventLog) -> None:
    answers = await settle([log.append(queued(log, "same")) for _ in range(100)])
    assert sum(isinstance(answer, int) for answer in answers) == 1
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 99
    assert len(await log.read_thing(guard(log.fleet, "task", "same"))) == 1


async def test_two_appends_to_one_thing_at_the_same_version_never_share_a_batch(
    log: EventLog,
) -> None:
    """Many others wait with them, so that a grouping log would put all of them into one batch."""
    first = await log.append(queued(log, "contested"))
    rivals = [cancel_requested(log, "contested", first) for _ in range(2)]
    crowd = [queued(log, f"other-{n}") for n in range(200)]
    answers = await settle([log.append(each) for each in (*crowd[:100], *rivals, *crowd[100:])])
    outcomes = answers[100:102]
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError", "int"]
    assert all(isinstance(answer, int) for answer in (*answers[:100], *answers[102:]))
    assert len(await log.read_thing(rivals[0].guard)) == 2


async def test_a_refused_member_does_not_refuse_those_that_travel_with_it(log: EventLog) -> None:
    known = [queued(log, f"known-{n}") for n in range(10)]
    await settle([log.append(each) for each in known])
    mixed = [queued(log, f"known-{n}") for n in range(10)] + [
        queued(log, f"new-{n}") for n in range(90)
    ]
    answers = await settle([log.append(each) for each in mixed])
    assert all(isinstance(answer, ConflictError) for answer in answers[:10])
    assert all(isinstance(answer, int) for answer in answers[10:])


async def test_the_same_entry_again_has_the_same_sequence(log: EventLog) -> None:
    entries = [queued(log, f"again-{n}") for n in range(50)]
    first = await settle([log.append(each) for each in entries])
    assert await settle([log.append(each) for each in entries]) == first
    assert await log.end() == 50


async def test_the_same_entry_again_is_known_even_after_later_events(log: EventLog) -> None:
    wanted = queued(log, "a")
    first = await log.append(wanted)
    await log.append(cancel_requested(log, "a", first))
    assert await log.append(wanted) == first


async def test_an_entry_behind_the_thing_is_refused(log: EventLog) -> None:
    first = await log.append(queued(log, "a"))
    await log.append(cancel_requested(log, "a", first))
    with pytest.raises(ConflictError):
        await log.append(cancel_requested(log, "a", first))


async def test_reading_starts_anywhere_and_filters(log: EventLog) -> None:
    entries = [queued(log, f"t{n}", queue="odd" if n % 2 else "even") for n in range(40)]
    await settle([log.append(each) for each in entries])
    whole = await collect(log.read())
    assert [stored.seq for stored in whole] == list(range(1, 41))
    assert await collect(log.read(after=25)) == whole[25:]
    assert await collect(log.read(after=40)) == []
    odd = await collect(log.read(after=10, subjects=tasks(log.fleet, "odd")))
    assert odd == [s for s in whole[10:] if ".odd." in s.subject]
    assert await collect(log.read(subjects=tasks(log.fleet, "none"))) == []


async def test_following_brings_what_was_and_what_comes_without_a_gap(log: EventLog) -> None:
    seen: list[int] = []
    await settle([log.append(queued(log, f"before-{n}")) for n in range(1500)])
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:

        async def write() -> None:
            for n in range(1500):
                await log.append(queued(log, f"after-{n}"))

        writer = group.create_task(write())
        async for page in log.follow(after=10):
            seen += [stored.seq for stored in page]
            if len(seen) >= 2990:
                break
        await writer
    assert seen == list(range(11, 3001))


async def test_a_cancelled_wait_leaves_the_entry_free_to_be_appended_again(log: EventLog) -> None:
    wanted = queued(log, "a")
    impatient = asyncio.ensure_future(log.append(wanted))
    impatient.cancel()
    seq = await log.append(wanted)
    assert [open_stored(stored).seq for stored in await log.read_thing(wanted.guard)] == [seq]


async def test_what_is_appended_together_stands_together_in_its_order(log: EventLog) -> None:
    entries = [queued(log, f"t{n}") for n in range(300)]
    crowd = [log.append(queued(log, f"other-{n}")) for n in range(100)]
    last = await log.append_together(entries)
    await asyncio.gather(*crowd)
    stored = [each for each in await collect(log.read()) if last - 300 < each.seq <= last]
    assert [each.data for each in stored] == [each.data for each in entries]


async def test_of_what_is_appended_together_nothing_is_stored_when_one_is_too_late(
    log: EventLog,
) -> None:
    await log.append(queued(log, "b"))
    for names in (("a", "b", "c"), ("b", "a", "c"), ("a", "c", "b")):
        with pytest.raises(ConflictError):
            await log.append_together([queued(log, name) for name in names])
    assert await log.end() == 1
    assert await log.append_together([queued(log, "a"), queued(log, "c")]) == 3


async def test_of_rivals_that_append_together_one_wins(log: EventLog) -> None:
    rivals = [[queued(log, "shared"), queued(log, f"own-{n}")] for n in range(20)]
    answers = await settle([log.append_together(each) for each in rivals])
    assert sorted(type(each).__name__ for each in answers) == ["ConflictError"] * 19 + ["int"]
    assert await log.end() == 2


async def test_the_same_appended_together_again_is_known(log: EventLog) -> None:
    entries = [queued(log, name) for name in "abc"]
    assert await log.append_together(entries) == 3
    await log.append(cancel_requested(log, "a", 1))
    assert await log.append_together(entries) == 3
    assert await log.end() == 4


async def test_a_rival_that_has_written_a_part_is_not_taken_for_oneself(log: EventLog) -> None:
    """Two coordinators give the same decision about a task the same id, beside others that differ."""
    shared = queued(log, "shared")
    await log.append_together([shared, queued(log, "gate")])
    with pytest.raises(ConflictError):
        await log.append_together([shared, queued(log, "lost"), queued(log, "gate")])
    assert await log.read_thing(guard(log.fleet, "task", "lost")) == []


async def test_two_of_one_thing_are_not_appended_together(log: EventLog) -> None:
    """All are checked against the state before the first: both would be stored."""
    twice = [queued(log, "a"), cancel_requested(log, "a", 0)]
    for wrong in (twice, [], [queued(log, f"t{n}") for n in range(1001)]):
        with pytest.raises(ValueError, match="together"):
            await log.append_together(wrong)
    assert await log.end() == 0
