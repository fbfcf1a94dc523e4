"""A log in memory with coordinators that do nothing but follow schedules, in virtual time."""

from __future__ import annotations

from typing import Any

from fleetlog.bus.derived import DerivedQueues
from fleetlog.bus.errors import LogFull
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.objects import MemoryObjects
from fleetlog.bus.scheduling import Scheduler
from fleetlog.bus.system import System
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Recorded, open_stored
from fleetlog.schemas.specs import TaskSpec
from support.join_world import LossyLog, WorldClock


class Room:
    """Full when it is told to be."""

    def __init__(self) -> None:
        self.is_full = False

    async def check_free(self) -> None:
        if self.is_full:
            raise LogFull("full")

    async def check(self, spec: TaskSpec) -> None:
        pass


class Seat:
    """One coordinator, as far as schedules go."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.begin(Unsettled())

    def begin(self, fold: Unsettled) -> None:
        self.fold = fold
        self.scheduler = Scheduler(self.fleet, fold.schedules, self._read_to)

    async def read(self, most: int = 10**9) -> None:
        async for page in self.fleet.log.read(after=self.fold.seq):
            for stored in page[:most]:
                self.fold.take(stored)

    async def _read_to(self, seq: int) -> None:
        await self.read(max(0, seq - self.fold.seq))

    async def act(self) -> None:
        while await self.scheduler.make_owed():
            pass


class World:
    """The log, and the coordinators that read it."""

    def __init__(self, seats: int = 2) -> None:
        self.clock = WorldClock()
        self.log = LossyLog(self.clock)
        self.room = Room()
        room: Any = self.room
        nothing: Any = None
        self.fleet = Fleet(
            name="main",
            log=self.log,
            offers=nothing,
            beats=nothing,
            outputs=nothing,
            objects=MemoryObjects(),
            hints=nothing,
            services=nothing,
            system=System(clock=self.clock),
            link=nothing,
            room=room,
            durability="always",
            derived=DerivedQueues(self.log, System(clock=self.clock)),
        )
        self.seats = [Seat(self.fleet) for _ in range(seats)]

    def records(self) -> list[Recorded]:
        return [open_stored(stored) for stored in self.log._messages]
