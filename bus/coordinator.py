"""The coordinator: does what time brings, and what agents leave that are lost.

It folds the log, holds what is not settled, and acts through guarded appends with derived ids: two coordinators
at once are harmless, none at all only delays. Of several one acts, and the others stand by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from typing import Final, Protocol, TypeVar

import msgspec

from fleetlog.bus.admitting import Admitter
from fleetlog.bus.background import background
from fleetlog.bus.commanding import Commander
from fleetlog.bus.coordinator_state import SERVICE, CoordinatorState
from fleetlog.bus.core import AgentState
from fleetlog.bus.core.stuck import offer_again
from fleetlog.bus.core.watch import Silence
from fleetlog.bus.errors import (
    ConflictError,
    FleetlogError,
    LogRewound,
    TransportError,
    Unavailable,
)
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.joining import Joiner
from fleetlog.bus.log import entry
from fleetlog.bus.lookout import Lookout
from fleetlog.bus.scheduling import Scheduler
from fleetlog.bus.snapshots import Snapshots
from fleetlog.bus.stuck_offers import StuckOffers, StuckTimes
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Stored
from fleetlog.schemas.events import AgentLost
from fleetlog.schemas.subjects import Subject

logger = logging.getLogger("fleetlog.coordinator")

A = TypeVar("A")

ACTS_MAX: Final = 1000
"""Appends in one go."""
ADMISSIONS_MAX: Final = 8
"""Batches at once: the server takes one after the other."""
AGAIN_S: Final = 1.0
READ_LOOK_S: Final = 0.02
SNAPSHOT_EVENTS: Final = 50_000
"""After so many events a snapshot is saved."""
SNAPSHOT_S: Final = 300.0
"""After so long, too, if there were any."""
SNAPSHOT_LOOK_S: Final = 1.0
SNAPSHOT_TIMEOUT_S: Final = 5.0
"""How long the last one may take that is saved at the end."""


class Owed(Protocol[A]):
    """A part of the fold that says what is to do."""

    def acts(self, now: datetime, most: int) -> list[A]:
        """Up to `most`, each once."""
        ...

    def next_at(self) -> datetime | None:
        """When more may come due."""
        ...


class Coordinator:
    """One coordinator process.

    Args:
        fleet: whose log.
        has_rivals: see `Lookout`.
        stuck: when offers are looked at that may be stuck.
    """

    def __init__(
        self, fleet: Fleet, *, has_rivals: bool = True, stuck: StuckTimes | None = None
    ) -> None:
        self._fleet = fleet
        self._stuck = stuck or StuckTimes()
        self._clock = fleet.system.clock
        self._unsettled = Unsettled()
        self._snapshots = Snapshots(fleet.objects, fleet.log)
        self._saved_seq = 0
        self._saved_at = self._clock.monotonic()
        self._wake = asyncio.Event()
        self._folded = asyncio.Event()
        self._stirred = asyncio.Event()
        self._scheduled = asyncio.Event()
        self.lookout = Lookout(fleet, has_rivals=has_rivals)
        """Hears agents and other coordinators."""
        self.ready = asyncio.Event()
        """Set once it has read the log to the end that it found at its start."""

    @property
    def violation_count(self) -> int:
        """Events that their task's state did not allow."""
        return self._unsettled.violation_count

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set."""
        async with self.lookout.open(), self._fleet.services.serve(SERVICE, self._describe):
            with self._fleet.link.hold.wanted() as hold:
                while not stop.is_set():
                    try:
                        await self._work(stop)
                    except LogRewound as error:
                        logger.warning("%s: nothing of what was known counts", error)
                        self._forget()
                        hold.lift()  # what waited has been dropped with who had decided it
            self.lookout.resign()
        await self._save_last()

    async def _work(self, stop: asyncio.Event) -> None:
        loops = (
            *(self._fold(), self._act(), self._join(), self._admit(), self._schedule()),
            *(self._lose_agents(), self._keep_snapshots(), self._offer_again(), self._derive()),
            self._look_for_loss(),
        )
        async with background(*loops, self.lookout.run()):
            await stop.wait()

    def _forget(self) -> None:
        """Begins with nothing, as at the start."""
        for agent_id in self._unsettled.agents:
            self.lookout.watch.dismiss(agent_id)
        self._unsettled = Unsettled()
        self._fleet.derived.forget()
        self._saved_seq = 0
        self.ready.clear()

    async def _describe(self, _request: bytes) -> AsyncIterator[bytes]:
        state = CoordinatorState(
            self.ready.is_set(),
            len(self._unsettled.tasks),
            self.violation_count,
            len(self._unsettled.agents),
            self.lookout.office.holder,
        )
        yield msgspec.json.encode(state)

    async def _fold(self) -> None:
        await self._restore()
        # What it knew before it began anew is nothing to look for any more; what it begins with is.
        if await self._has_lost():
            raise LogRewound("the log has lost what this coordinator begins with")
        end = await self._end()
        if end <= self._unsettled.seq:
            self._catch_up()
        async for page in self._fleet.log.follow(after=self._unsettled.seq):
            for stored in page:
                self._take(stored)
            if not self.ready.is_set() and self._unsettled.seq >= end:
                self._catch_up()
            self._stir()

    async def _restore(self) -> None:
        restored = await self._snapshots.load()
        if restored is None:
            return
        self._unsettled = restored
        self._saved_seq = restored.seq
        for agent_id in restored.agents:
            self.lookout.watch.enroll(agent_id, self._clock.monotonic())
        logger.info("begun with a snapshot at event %d", restored.seq)

    async def _end(self) -> int:
        while True:
            try:
                return await self._fleet.log.end()
            except TransportError as error:
                logger.warning("the log can't be read yet: %s", error)
                await self._clock.sleep(AGAIN_S)

    async def _keep_snapshots(self) -> None:
        await self.ready.wait()
        while True:
            await self._clock.sleep(SNAPSHOT_LOOK_S)
            count = self._unsettled.seq - self._saved_seq
            age_s = self._clock.monotonic() - self._saved_at
            is_due = count >= SNAPSHOT_EVENTS or (count and age_s >= SNAPSHOT_S)
            if is_due and self.lookout.active.is_set():
                await self._save()

    async def _save(self) -> None:
        seq = self._unsettled.seq
        # Whether it succeeds or not: the next try is not due before as much has happened again.
        self._saved_seq, self._saved_at = seq, self._clock.monotonic()
        try:
            await self._snapshots.save(self._unsettled)
        except FleetlogError as error:
            logger.warning("no snapshot was saved at event %d: %s", seq, error)

    async def _save_last(self) -> None:
        is_new = self._unsettled.seq > self._saved_seq
        if not (self.ready.is_set() and self.lookout.active.is_set() and is_new):
            return
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await self._save()
        except TimeoutError:
            logger.warning("no snapshot was saved: the server does not answer")

    def _catch_up(self) -> None:
        unsettled = self._unsettled
        logger.info(
            "the log is read up to %d: %d tasks are not settled, %d agents have not ended",
            *(unsettled.seq, len(unsettled.tasks), len(unsettled.agents)),
        )
        self.ready.set()

    def _take(self, stored: Stored) -> None:
        record = self._unsettled.take(stored)
        if record.subject is None or record.subject.kind != "agent":
            return
        if record.subject.id in self._unsettled.agents:
            self.lookout.watch.enroll(record.subject.id, self._clock.monotonic())
        else:
            self.lookout.watch.dismiss(record.subject.id)

    async def _act(self) -> None:
        await self.ready.wait()
        commander = Commander(self._fleet, self._unsettled.put_back)
        while True:
            await self.lookout.active.wait()
            self._wake.clear()
            acts = self._unsettled.acts(self._fleet.log.now(), ACTS_MAX)
            self._stirred.set()  # some may have got into line
            if acts:
                await asyncio.gather(*(commander.do(task, command) for task, command in acts))
            else:
                await self._pause()

    async def _join(self) -> None:
        """Like `_act`, for what waits for sets of tasks: what of it has to wait holds up nothing else."""
        await self.ready.wait()
        joins = self._unsettled.joins
        unsettled = self._unsettled
        joiner = Joiner(
            self._fleet,
            joins,
            self._read_to,
            self._stir,
            let_in=unsettled.let_in,
            placed=unsettled.placed,
        )
        await self._carry_out(joins, joiner.do, self._folded, ACTS_MAX)

    async def _admit(self) -> None:
        """Like `_join`, for what has to be let in."""
        await self.ready.wait()
        admission = self._unsettled.admission
        admitter = Admitter(
            self._fleet, admission, self._read_to, self._stirred.set, self._unsettled.placed
        )
        await self._carry_out(admission, admitter.do, self._stirred, ADMISSIONS_MAX)

    async def _carry_out(
        self,
        agenda: Owed[A],
        do: Callable[[A], Coroutine[None, None, None]],
        wake: asyncio.Event,
        most: int,
    ) -> None:
        """Up to `most` acts at once, for ever."""
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as acting:
            while True:
                await self.lookout.active.wait()
                wake.clear()
                acts = agenda.acts(self._fleet.log.now(), most - len(under_way))
                for act in acts:
                    task = acting.create_task(do(act))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    task.add_done_callback(lambda _: wake.set())
                if acts:
                    await asyncio.sleep(0)
                else:
                    await self._until(wake, agenda.next_at())

    def _stir(self) -> None:
        """Something is known that was not: everyone looks."""
        for event in (self._wake, self._folded, self._stirred, self._scheduled):
            event.set()

    async def _schedule(self) -> None:
        """Like `_act`, for the tasks of schedules."""
        await self.ready.wait()
        scheduler = Scheduler(self._fleet, self._unsettled.schedules, self._read_to)
        while True:
            await self.lookout.active.wait()
            self._scheduled.clear()
            if not await scheduler.make_owed():
                await self._until(self._scheduled, scheduler.look_at())

    async def _offer_again(self) -> None:
        """Looks now and then for offers that reach nobody."""
        await self.ready.wait()
        commander = Commander(self._fleet, self._unsettled.put_back)
        stuck = StuckOffers(self._fleet, self._unsettled.tasks, self._read_to, self._stuck.after_s)
        while True:
            await self._clock.sleep(self._stuck.look_s)
            await self.lookout.active.wait()
            found = await stuck.look()
            for first in range(0, len(found), ACTS_MAX):
                again = found[first : first + ACTS_MAX]
                await asyncio.gather(*(commander.do(task, offer_again(task)) for task in again))

    async def _derive(self) -> None:
        """Whatever is open has its queue, also where the log has lost what its submitter had said of that."""
        await self.ready.wait()
        while True:
            specs = [task.spec for task in self._unsettled.tasks.values() if task.spec is not None]
            try:
                await self._fleet.derived.ensure(specs)
            except TransportError as error:
                logger.warning("queues for requirements have to wait: %s", error)
                await self._clock.sleep(AGAIN_S)
            else:
                return

    async def _look_for_loss(self) -> None:
        """What was read or appended here may be gone with the server's last second.

        Until that is known, nothing that was decided by it is sent again.

        Raises:
            LogRewound: it is gone: what was done because of it does not count.
        """
        hold = self._fleet.link.hold
        while True:
            breaks = await hold.begun()
            if await self._has_lost():
                raise LogRewound("the log has lost what was read of it or appended to it")
            hold.lift(breaks)

    async def _has_lost(self) -> bool:
        while True:
            try:
                return await self._fleet.log.has_lost(self._unsettled.last)
            except TransportError as error:
                logger.debug("whether the log has lost anything is not known: %s", error)
                await self._clock.sleep(AGAIN_S)

    async def _read_to(self, seq: int) -> None:
        """Until the fold has taken event `seq`.

        Raises:
            Unavailable: the connection broke meanwhile, and the log may not come to `seq` again.
        """
        hold = self._fleet.link.hold
        breaks = hold.break_count
        while self._unsettled.seq < seq:
            if hold.break_count > breaks:
                raise Unavailable("the connection broke before all was read")
            await self._clock.sleep(READ_LOOK_S)

    async def _lose_agents(self) -> None:
        await self.ready.wait()
        while True:
            lost = await self.lookout.lost()
            known = ((self._unsettled.agents.get(each.agent_id), each) for each in lost)
            # All at once: an append that has to wait must not make another one's evidence old.
            await asyncio.gather(*(self._lose(agent, each) for agent, each in known if agent))

    async def _lose(self, agent: AgentState, silence: Silence) -> None:
        event = AgentLost(
            id=f"{agent.id}-lost",
            occurred_at=self._fleet.log.now(),
            silent_ms=round(silence.silent_s * 1000),
        )
        subject = Subject(self._fleet.name, "agent", agent.id, "lost")
        try:
            seq = await self._fleet.log.append(entry(subject, agent.version, event))
        except ConflictError:
            return  # it has said something after all, or another coordinator was first
        except TransportError as error:
            logger.warning("agent %s is lost, and that can't be recorded yet: %s", agent.id, error)
            return
        logger.warning("agent %s is lost: silent for %.1f s", agent.id, silence.silent_s)
        self._fleet.hints.publish(agent.id, seq, to=agent.id)

    async def _pause(self) -> None:
        """Until something is folded, or the first instant comes."""
        await self._until(self._wake, self._unsettled.next_at())

    async def _until(self, event: asyncio.Event, instant: datetime | None) -> None:
        delay_s: float | None = None
        if instant is not None:
            delay_s = max(0.0, (instant - self._fleet.log.now()).total_seconds())
        try:
            async with asyncio.timeout(delay_s):
                await event.wait()
        except TimeoutError:
            pass
