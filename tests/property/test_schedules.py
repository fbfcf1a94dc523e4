"""Schedules under random events and coordinators with old, cut and restored folds; read from the log alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from support.judging import check_log
from support.schedule_world import Seat, World

from fleetlog.bus.core import RequestCancel
from fleetlog.bus.core.schedule import instant_of
from fleetlog.bus.errors import ScheduleNotFound
from fleetlog.bus.rules import execute, load_task
from fleetlog.bus.schedules import Wanted, change_schedule, set_schedule
from fleetlog.bus.snapshots import Snapshots
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import (
    SchedulePaused,
    ScheduleRemoved,
    ScheduleResumed,
    ScheduleSet,
    TaskQueued,
    TerminalEvent,
)
from fleetlog.schemas.specs import TaskSpec

NAME = "s"
MINUTE = timedelta(minutes=1)
STEPS = (
    *["time"] * 6,
    *["read", "act", "read and act"] * 3,
    *("set", "set again", "pause", "resume", "remove"),
    *("settle", "settle", "forget", "restore", "fill"),
)
WAITS_MS = (1, 250, 999, 1_000, 5_000, 20_000, 59_000, 61_000, 600_000)
RULES: tuple[dict[str, Any], ...] = (
    {"every_ms": 1_000},
    {"every_ms": 2_500},
    {"every_ms": 45_000},
    {"every_ms": 300_000},
    {"cron": "* * * * *"},
    {"cron": "*/7 * * * *"},
)


class Play(World):
    """What happens at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)

    async def step(self, what: str) -> None:
        seat = self.chance.choice(self.seats)
        match what:
            case "time":
                self.clock.pass_ms(self.chance.choice(WAITS_MS))
            case "read":
                await seat.read(self.chance.randint(1, 5))
            case "act":
                self.log.trouble = self.chance.choice(("", "", "request", "answer"))
                await seat.act()
                self.log.trouble = ""
            case "read and act":
                await seat.read()
                known = made(self.records())
                await seat.act()
                check_complete(self.records(), self.log.now(), set(known))
            case "set" | "set again":
                rule = self.chance.choice(RULES)
                overlap = self.chance.choice(("allow", "skip"))
                spec = TaskSpec(handler=self.chance.choice(("h", "i")))
                wanted = Wanted(spec=spec, overlap=overlap, **rule)
                await set_schedule(self.fleet, NAME, wanted, is_replacing=True)
            case "pause" | "resume" | "remove":
                verb = {"pause": "paused", "resume": "resumed", "remove": "removed"}[what]
                await self.change(verb)
            case "settle":
                await self.settle()
            case "forget":
                seat.begin(Unsettled())
            case "restore":
                await self.restore(seat)
            case "fill":
                self.room.is_full = True
                # Full for as long as one try takes.
                await seat.scheduler.make_owed()
                self.room.is_full = False

    async def change(self, verb: Any) -> None:
        with suppress(ScheduleNotFound):
            await change_schedule(self.fleet, NAME, verb)

    async def settle(self) -> None:
        if opened := open_tasks(self.records()):
            task = await load_task(self.log, self.chance.choice(sorted(opened)))
            await execute(self.log, RequestCancel(id=f"c-{task.id}"), task)

    async def restore(self, seat: Seat) -> None:
        snapshots = Snapshots(self.fleet.objects, self.log)
        if seat.fold.seq:
            await snapshots.save(seat.fold)
        self.chance.choice(self.seats).begin(await snapshots.load() or Unsettled())


class Epoch(msgspec.Struct):
    """A time in which one rule held and was not paused."""

    rule: ScheduleSet
    anchor: datetime
    since: datetime

    def instants(self, now: datetime) -> Iterator[datetime]:
        """All of them, counted one by one."""
        rule = self.rule
        if rule.every_ms is not None:
            at = self.anchor.replace(
                microsecond=self.anchor.microsecond // 1_000 * 1_000 if rule.every_ms % 1_000 else 0
            )
            step = timedelta(milliseconds=rule.every_ms)
        else:
            at = self.anchor.replace(second=0, microsecond=0)
            step = MINUTE
        every = 7 if rule.cron == "*/7 * * * *" else 1
        while (at := at + step) <= now:
            if at > self.since and (rule.cron is None or at.minute % every == 0):
                yield at


def epochs(records: list[Recorded]) -> tuple[list[Epoch], bool]:
    """All that there were, and whether the last one still is."""
    found: list[Epoch] = []
    is_active = is_paused = False
    for record in records:
        match record.event:
            case ScheduleSet():
                found.append(Epoch(record.event, record.stored_at, record.stored_at))
                is_active = not is_paused
            case SchedulePaused():
                is_active, is_paused = False, True
            case ScheduleResumed():
                last = found[-1]
                found.append(Epoch(last.rule, last.anchor, record.stored_at))
                is_active, is_paused = True, False
            case ScheduleRemoved():
                is_active = is_paused = False
    return found, is_active


def made(records: list[Recorded]) -> dict[datetime, Recorded]:
    """By instant, the first event of its task."""
    found: dict[datetime, Recorded] = {}
    for record in records:
        if isinstance(record.event, TaskQueued) and record.subject is not None:
            assert record.event.spec.schedule == NAME
            instant = instant_of(NAME, record.subject.id)
            assert instant is not None
            assert instant not in found
            found[instant] = record
    return found


def ends(records: list[Recorded]) -> dict[str, datetime]:
    return {
        record.subject.id: record.stored_at
        for record in records
        if record.subject is not None and isinstance(record.event, TerminalEvent)
    }


def open_tasks(records: list[Recorded]) -> set[str]:
    known = {each.subject.id for each in made(records).values() if each.subject is not None}
    return known - set(ends(records))


def before(records: list[Recorded], instant: datetime) -> list[datetime | None]:
    """Of each task of an earlier instant, the latest first, when it settled."""
    found, settled = made(records), ends(records)
    earlier = sorted((each for each in found if each < instant), reverse=True)
    subjects = [found[each].subject for each in earlier]
    return [settled.get(subject.id) for subject in subjects if subject is not None]


def is_in_the_way(end: datetime | None, instant: datetime) -> bool:
    """Whether a task with this end had not settled before an instant."""
    return end is None or end >= instant


def check_complete(records: list[Recorded], now: datetime, known: set[datetime]) -> None:
    """Someone who knew everything has just acted: what is owed is there, and nothing else was made."""
    all_of_them, is_active = epochs(records)
    due = list(all_of_them[-1].instants(now)) if is_active else []
    assert set(made(records)) - known <= set(due)
    if not is_active:
        return
    epoch = all_of_them[-1]
    wanted = [each for each in due if each >= now - MINUTE] or due[-1:]
    missing = [each for each in wanted if each not in made(records)]
    for instant in missing:
        # Any of them: one that was still made of the rule before does not count as the one before.
        assert epoch.rule.overlap == "skip"
        assert any(is_in_the_way(end, instant) for end in before(records, instant))


def check_allowed(records: list[Recorded]) -> None:
    """Every task belongs to an instant of its rule, not before its time, and is not one to be skipped."""
    found = made(records)
    for instant, record in found.items():
        assert isinstance(record.event, TaskQueued)
        assert record.stored_at >= instant
        earlier = [each for each in records if each.seq < record.seq]
        epochs_before = [each for each in epochs(earlier)[0] if each.rule.id == record.event.cause]
        assert any(instant in set(each.instants(instant)) for each in epochs_before)
        rule = epochs_before[0].rule
        assert record.event.spec == msgspec.structs.replace(rule.spec, schedule=NAME)
        same_rule = [*(each for each in records if getattr(each.event, "cause", "") == rule.id)]
        settled = [each for each in records if isinstance(each.event, TerminalEvent)]
        if rule.overlap == "skip":
            assert not any(
                is_in_the_way(end, instant) for end in before(same_rule + settled, instant)[:1]
            )


@settings(max_examples=500)
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), max_size=40))
def test_every_instant_makes_one_task_and_none_is_lost(seed: int, steps: list[str]) -> None:
    async def play() -> None:
        world = Play(seed)
        for what in ["set", *steps, "read and act"]:
            await world.step(what)
        records = world.records()
        check_allowed(records)
        assert not {each.fold.violation_count for each in world.seats} - {0}
        # Nobody runs what was made.
        at_ns = round(world.clock.now().timestamp() * 1_000) * 1_000_000
        check_log(world.log._messages, is_quiet=True, allowed_open=lambda _: True, at_ns=at_ns)

    asyncio.run(play())
