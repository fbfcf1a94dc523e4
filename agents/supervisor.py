"""The agent daemon: holds the connection, the leases and the heartbeat, and runs no task code itself."""

from __future__ import annotations

import asyncio
import logging
import platform
import re
from collections.abc import Awaitable, Coroutine
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from fleetlog.agents.agent_options import AgentOptions
from fleetlog.agents.attempt import Attempt
from fleetlog.agents.attempts import Attempts
from fleetlog.agents.claims import Claims
from fleetlog.agents.credential_gate import CredentialGate
from fleetlog.agents.derived_lanes import DerivedLanes
from fleetlog.agents.elasticity import Elasticity
from fleetlog.agents.feeder import Feeder
from fleetlog.agents.lanes import QueueShare
from fleetlog.agents.machine import LocalMachine, Machine
from fleetlog.agents.memory_watch import MemoryWatch
from fleetlog.agents.outflow import Outflow
from fleetlog.agents.own_labels import built_in_labels
from fleetlog.agents.own_loss import OwnLoss
from fleetlog.agents.pool import PoolOptions, WorkerPool
from fleetlog.agents.recorder import Recorder
from fleetlog.agents.scaling import ScalingRule
from fleetlog.agents.slots import Slot
from fleetlog.agents.strains import Gauges, HostGauges, StrainWatch, strains_text
from fleetlog.agents.wishes import Wishes
from fleetlog.agents.worktrees.worktrees import Worktrees
from fleetlog.bus.agent_requests import DrainRequest, service_of
from fleetlog.bus.background import background, first_of
from fleetlog.bus.errors import ConfigError, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.offers import Offer
from fleetlog.bus.queues import read_queues
from fleetlog.bus.rules import load_task
from fleetlog.schemas.beats import Beat
from fleetlog.schemas.events import Strain
from fleetlog.schemas.ids import check_id
from fleetlog.schemas.subjects import guard

logger = logging.getLogger("fleetlog.agents")

BEAT_S: Final = 1.0
AGAIN_S: Final = 1.0
STOP_AGAIN_S: Final = 0.2
LOOK_S: Final = 5.0
"""How often the log is asked about a running task although no hint came."""


class Supervisor:
    """An agent, one incarnation after the other: whoever was held for lost starts anew under another id."""

    def __init__(
        self,
        fleet: Fleet,
        options: AgentOptions,
        *,
        gauges: Gauges | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._fleet = fleet
        self._machine = machine or LocalMachine(fleet.system)
        self._folder = options.data or Path.cwd()
        self._gauges = gauges or HostGauges(self._folder)
        self._options = options
        self.host = options.host or host_name()
        self.labels = {
            **built_in_labels(
                host=self.host,
                version=options.version,
                profiles=options.profiles,
                environ=options.environ,
            ),
            **options.labels,
            # Not for anybody to choose: tasks with an affinity are offered to it.
            "host": self.host,
        }
        """What it offers: tasks that require some of it come here."""
        self.ready = asyncio.Event()
        """Set while it takes offers."""
        self.wishes = Wishes(lambda: len(self._attempts.live))
        """What others asked of it."""
        self._begin()

    def _begin(self) -> None:
        fleet, options = self._fleet, self._options
        self.agent_id = f"a{fleet.system.new_id()}"
        self._loss = OwnLoss(fleet, self.agent_id)
        self._recorder = Recorder(fleet, self.agent_id, self.host)
        self._outflow = Outflow(fleet.outputs)
        self._worktrees = self._worktrees_of(options)
        self._gate = CredentialGate(fleet, self.agent_id, self.host)
        self._attempts = Attempts(
            fleet,
            Claims(fleet, self.agent_id, self.host, self._gate),
            self._recorder,
            self._outflow,
            stop_s=options.stop_s,
            worktrees=self._worktrees,
        )
        self._is_draining = False
        self._look: asyncio.Queue[str] = asyncio.Queue()

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set or someone asks it to drain; then takes nothing new, finishes and ends.

        Raises:
            ConfigError: the app cannot be loaded, a consumer has wrong settings, or a repository can't be used.
        """
        while await self._live(stop):
            self._begin()

    async def _live(self, stop: asyncio.Event) -> bool:
        """One incarnation; answers whether another one shall follow."""
        pool_options = PoolOptions(
            size=self._options.workers,
            concurrency=self._options.concurrency,
            reserve_high=self._options.reserve_high,
            app=self._options.app,
            environ=self._options.environ,
            stop_s=self._options.stop_s,
            credentials=self._options.credentials,
            profiles=self._options.profiles,
        )
        pool = WorkerPool(
            pool_options,
            system=self._fleet.system,
            events=self._recorder,
            machine=self._machine,
        )
        trees = self._worktrees.open() if self._worktrees is not None else nullcontext()
        # Beats come before the start is recorded and until the end is: silence in between would be a loss.
        async with background(self._recorder.run(), self._outflow.run(), self._beat(pool)):
            async with trees, pool:
                self._record_start(pool)
                await self._recorder.flush()
                await self._serve(pool, stop)
            is_lost = self._loss.found.is_set()
            if self._loss.is_rewound:
                # What the log still says that we hold, as its end was lost, is returned with this.
                self._recorder.stopped("the log has lost events of this agent")
            elif not is_lost:
                self._recorder.stopped("drained")
            await self._recorder.flush()
        return is_lost and not (stop.is_set() or self.wishes.asked.is_set())

    def _worktrees_of(self, options: AgentOptions) -> Worktrees | None:
        if not options.worktrees:
            return None
        if options.data is None:
            raise ConfigError("worktrees need a data folder: name one with --data")
        return Worktrees(
            options.worktrees,
            data=options.data,
            owner=self.agent_id,
            clock=self._fleet.system.clock,
            environ=options.environ,
        )

    def _record_start(self, pool: WorkerPool) -> None:
        self._recorder.started(
            pid=self._machine.pid,
            version=self._options.version,
            queues=self._queues(),
            workers=self._options.workers,
            concurrency=self._options.concurrency,
            labels=self.labels,
            handlers={name: msgspec.Raw(schema) for name, schema in pool.handlers.items()},
            workers_max=self._options.workers_max,
            reserve_high=self._options.reserve_high,
        )

    async def _serve(self, pool: WorkerPool, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as running:

            def start(offer: Offer, slot: Slot) -> None:
                running.create_task(self._attempts.run(offer, slot))

            feeder = Feeder(
                self._fleet.offers,
                pool,
                {name: self._options.shares.get(name, QueueShare()) for name in self._queues()},
                start=start,
                adopt=self._attempts.adopt,
                clock=self._fleet.system.clock,
            )
            strains = StrainWatch(
                self._gauges,
                self._options.floors,
                self._fleet.system.clock,
                changed=partial(self._on_strains, feeder),
                folder=self._folder,
            )
            strains.look()
            lanes = await self._bind_in_time(feeder, stop)
            if lanes is None:
                return
            loops = (
                *(feeder.run(), self._loss.run(), self._keep_leases(), self._fleet.offers.run()),
                *(lanes.run(), strains.run()),
                *(*self._memory_watch(pool), *self._elasticity(pool, feeder)),
                self._machine.end_leftovers(),
            )
            async with (
                background(*loops, self._look_for_ends(), self._gate.run()),
                self._fleet.hints.listen(self.agent_id, self._on_hint),
                self._fleet.services.serve(service_of(self.agent_id), self.wishes.answer),
            ):
                self.ready.set()
                if await first_of(stop, self.wishes.asked, self._loss.found) is self._loss.found:
                    await self._give_up(feeder)
                else:
                    await self._drain(feeder)

    async def _bind_in_time(self, feeder: Feeder, stop: asyncio.Event) -> DerivedLanes | None:
        """Makes ready to take offers, as soon as the server answers; None if it was told to stop before."""
        while not stop.is_set():
            try:
                return await self._bind(feeder)
            except TransportError as error:
                logger.warning("takes no tasks yet: %s", error)
            await _up_to(AGAIN_S, stop.wait())
        return None

    async def _bind(self, feeder: Feeder) -> DerivedLanes:
        await self._gate.bind()
        queues = await read_queues(self._fleet.log)
        lanes = DerivedLanes(self._fleet, feeder, queues, self.labels)
        await feeder.bind()
        await lanes.bind()
        return lanes

    def _on_strains(self, feeder: Feeder, strains: tuple[Strain, ...]) -> None:
        if strains:
            logger.warning("takes nothing new: short of %s", strains_text(strains))
        else:
            logger.warning("takes tasks again: nothing is short any more")
        feeder.rest(bool(strains))
        self._recorder.strained(strains)

    def _elasticity(
        self, pool: WorkerPool, feeder: Feeder
    ) -> tuple[Coroutine[Any, Any, None], ...]:
        options = self._options
        if options.workers_max is None:
            return ()
        rule = ScalingRule(
            workers_min=options.workers,
            workers_max=options.workers_max,
            concurrency=options.concurrency,
            idle_s=options.idle_s,
        )
        return (Elasticity(rule, self._fleet, pool, feeder, self._recorder).run(),)

    def _memory_watch(self, pool: WorkerPool) -> tuple[Coroutine[Any, Any, None], ...]:
        max_bytes = self._options.memory_max_bytes
        if max_bytes is None:
            return ()
        return (MemoryWatch(lambda: pool.workers, max_bytes, self._fleet.system.clock).run(),)

    async def _give_up(self, feeder: Feeder) -> None:
        """Others have what this incarnation held, or nobody knows who has: its processes end.

        What they gave is refused, unless the lease still stands: then it is returned.
        """
        live = len(self._attempts.live)
        what = "was silent and is held for lost"
        if self._loss.is_rewound:
            what = "wrote events that the log has lost, as its server came back without its last second"
        logger.error(
            "agent %s %s: %d attempts end, it starts anew under another id",
            self.agent_id,
            what,
            live,
        )
        self.ready.clear()
        self._is_draining = True
        feeder.drain()
        while self._attempts.live:
            # Again and again, for one that is just being claimed can be stopped only once it runs.
            for attempt in self._attempts.live:
                self._attempts.stop(attempt, "drain" if self._loss.is_rewound else "lost")
            await _up_to(STOP_AGAIN_S, self._attempts.wait_idle())
        await self._fleet.offers.close()

    async def _drain(self, feeder: Feeder) -> None:
        self._is_draining = True
        feeder.drain()
        live = len(self._attempts.live)
        wish = self.wishes.drain or DrainRequest()
        self._recorder.draining(wish.reason or "told to stop", wish.actor)
        if live:
            logger.warning("draining: %d running, they have %g s", live, self._options.drain_s)
        try:
            async with asyncio.timeout(self._options.drain_s):
                await self._attempts.wait_idle()
        except TimeoutError:
            for attempt in self._attempts.live:
                self._attempts.stop(attempt, "drain")
            await self._attempts.wait_idle()
        await self._fleet.offers.close()

    async def _beat(self, pool: WorkerPool) -> None:
        while True:
            self._loss.tick()
            beat = Beat(
                agent_id=self.agent_id,
                host=self.host,
                occurred_at=self._fleet.system.clock.now(),
                state="draining" if self._is_draining else "running",
                workers=pool.beats(),
            )
            self._fleet.beats.publish(beat)
            await self._fleet.system.clock.sleep(BEAT_S)

    async def _keep_leases(self) -> None:
        """Tells the server that the offers in hand are being worked on."""
        while True:
            await self._fleet.system.clock.sleep(self._fleet.offers.ack_wait_s / 3)
            for attempt in self._attempts.live:
                self._fleet.offers.in_progress(attempt.ack_subject)

    def _on_hint(self, task_id: str, seq: int) -> None:
        if task_id == self.agent_id:
            self._loss.look()
        attempt = self._attempts.find(task_id)
        if attempt is not None and seq > attempt.fence > 0:
            self._look.put_nowait(task_id)

    async def _look_for_ends(self) -> None:
        """Looks into the log for a cancel, or for a lease that is no longer ours; at hints, and slowly."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    wanted = [await self._look.get()]
            except TimeoutError:
                wanted = [attempt.offer.task_id for attempt in self._attempts.live]
            for task_id in wanted:
                attempt = self._attempts.find(task_id)
                if attempt is not None and attempt.is_running and attempt.why is None:
                    await self._quietly(self._look_at(attempt))

    async def _look_at(self, attempt: Attempt) -> None:
        task_id = attempt.offer.task_id
        last = await self._fleet.log.last(guard(self._fleet.name, "task", task_id))
        if last is not None and last.seq == attempt.fence:
            return
        task = await load_task(self._fleet.log, task_id)
        if not attempt.is_running:
            return  # it has ended meanwhile, and that is what the log has to say
        if task.lease is None or task.lease.fence != attempt.fence:
            logger.warning("task %s: the lease was lost, its process ends", task_id)
            self._attempts.stop(attempt, "lost")
        elif task.is_cancel_requested:
            self._attempts.stop(attempt, "cancel")

    async def _quietly(self, awaitable: Awaitable[None]) -> None:
        try:
            await awaitable
        except TransportError as error:
            logger.debug("the log is away: %s", error)

    def _queues(self) -> tuple[str, ...]:
        own = f"host-{self.host}"
        return tuple(dict.fromkeys((*self._options.queues, own)))


async def _up_to(timeout_s: float, awaitable: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await awaitable
    except TimeoutError:
        pass


def host_name() -> str:
    """This machine's name as one token of a subject."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", platform.node().split(".")[0]) or "localhost"
    return check_id(name[:60], "host")
