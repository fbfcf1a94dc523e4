"""A run: what is done to a fleet and what befalls it, from one seed; then quiet, and everything must end."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from fleetlog.bus.answering import answer_task
from fleetlog.bus.bounds import set_budget, set_limit
from fleetlog.bus.credentials import resume
from fleetlog.bus.errors import FleetlogError, ScheduleNotFound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.queues import set_paused
from fleetlog.bus.schedules import change_schedule
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.errors import InvalidInput
from simulation.fleet import Node, World
from simulation.invariants import Judge, Message, Tolerance, Violation
from simulation.server import Manners
from simulation.workload import (
    BUDGETS,
    CREDENTIALS,
    LIMIT_KEYS,
    QUEUES,
    SCHEDULES,
    Act,
    Workload,
    budget,
    credential_resumption,
    limit,
)

SETTLE_S = 900.0
"""After the faults, everything has settled within this time of the simulation."""
LOOK_S = 1.0
TOLERANCE = Tolerance()
ACT_TIMEOUT_S = 60.0
TERMINAL = ("completed", "failed", "cancelled", "expired")


class Trouble:
    """Draws what goes wrong, and does it.

    Args:
        story: whose fleet.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "kill agent": (3, lambda: self._kill("agent")),
            "kill coordinator": (3, lambda: self._kill("coordinator")),
            "kill client": (2, lambda: self._kill("client")),
            "kill worker": (6, self._kill_worker),
            "pause agent": (3, lambda: self._pause("agent")),
            "pause coordinator": (3, lambda: self._pause("coordinator")),
            "cut": (5, self._cut),
            "stall": (3, self._stall),
            "stop server": (2, self._stop_server),
            "lose messages": (2, self._lose),
            "slow network": (2, self._slow),
            "clock": (2, self._clock),
            "stop agent": (2, self._stop_agent),
            "strain": (1, self._strain),
        }

    def strike(self) -> str:
        """Does something bad; says what."""
        kinds = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        kind = self._story.chance.choices(kinds, weights)[0]
        self._kinds[kind][1]()
        return kind

    def _one(self, kind: str) -> Node | None:
        living = self._story.living(kind)
        return self._story.chance.choice(living) if living else None

    def _kill(self, kind: str) -> None:
        if (node := self._one(kind)) is not None:
            node.kill()

    def _kill_worker(self) -> None:
        node = self._one("agent")
        if node is not None and node.machine.workers:
            self._story.chance.choice(list(node.machine.workers.values())).signal(9)

    def _pause(self, kind: str) -> None:
        node = self._one(kind)
        if node is None or node.process.is_paused:
            return
        node.process.pause()
        for_s = self._story.chance.choice((0.5, 3.0, 8.0, 40.0))
        self._story.later(for_s, lambda: node.process.resume(self._story.world.loop))

    def _cut(self) -> None:
        living = [node for node in self._story.world.nodes if node.is_alive]
        if living:
            self._story.chance.choice(living).link.cut()

    def _stall(self) -> None:
        living = [node for node in self._story.world.nodes if node.is_alive]
        if living:
            self._story.chance.choice(living).link.stall(
                self._story.chance.choice((1.0, 6.0, 35.0))
            )

    def _stop_server(self) -> None:
        server = self._story.world.server
        if server.is_up:
            server.stop()
            self._story.later(self._story.chance.choice((0.2, 3.0, 45.0)), server.start)

    def _lose(self) -> None:
        network = self._story.world.network
        network.loss = self._story.chance.choice((0.01, 0.1))
        self._story.later(
            self._story.chance.choice((0.5, 5.0)), lambda: setattr(network, "loss", 0.0)
        )

    def _slow(self) -> None:
        network = self._story.world.network
        usual, network.delay_s = (0.0001, 0.002), (0.001, self._story.chance.choice((0.1, 1.0)))
        self._story.later(5.0, lambda: setattr(network, "delay_s", usual))

    def _clock(self) -> None:
        living = [node for node in self._story.world.nodes if node.is_alive]
        if living:
            ms = self._story.chance.choice((-3_600_000, -500, 500, 3_600_000))
            self._story.chance.choice(living).machine.clock.skew = timedelta(milliseconds=ms)

    def _stop_agent(self) -> None:
        if (node := self._one("agent")) is not None:
            node.stopping.set()

    def _strain(self) -> None:
        if (node := self._one("agent")) is not None:
            gauges, free = node.machine.gauges, node.machine.gauges.free_bytes
            gauges.free_bytes = 0
            self._story.later(10.0, lambda: setattr(gauges, "free_bytes", free))


class Story:
    """See the module.

    Args:
        seed: everything follows from it.
        steps: how many things are done or go wrong.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        replicated = self.chance.random() < 0.4
        manners = Manners(
            is_replicated=replicated, lag_max=self.chance.choice((0, 3)) if replicated else 0
        )
        durability = self.chance.choice(("relaxed", "always"))
        self.world = World(self.chance.getrandbits(64), durability=durability, manners=manners)
        self.steps = steps
        self.workload = Workload(self.chance)
        self.trouble = Trouble(self)
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.told: list[tuple[float, str]] = []
        """What was done and what went wrong, and when."""
        self._fleets: dict[Node, Fleet] = {}
        self._is_quiet = False
        self.unsettled: list[str] = []

    def living(self, kind: str) -> list[Node]:
        """The nodes of a kind that live."""
        return [node for node in self.world.nodes if node.name.startswith(kind) and node.is_alive]

    def later(self, delay_s: float, do: Callable[[], object]) -> None:
        """Does something later, whatever happens meanwhile."""
        self.world.server.later(delay_s, lambda: do() and None)

    def run(self) -> list[Violation]:
        """The whole of it; answers what was wrong."""
        self.world.run(self._run())
        judge = Judge(tolerance=TOLERANCE, objects=self.world.objects)
        for kept in self.world.log:
            judge.take(Message(*kept))
        judge.end(is_quiet=True, allowed_open=(), at_ns=self.world.server.now_ns())
        return judge.violations

    async def _run(self) -> None:
        self._refill()
        trouble_part = self.chance.choice((0.0, 0.1, 0.3))
        pause_s = self.chance.choice((0.01, 0.1, 0.5))
        for _ in range(self.steps):
            self._refill()
            if self.chance.random() < trouble_part:
                self._note(self.trouble.strike())
            else:
                name, act = self.workload.draw()
                self._note(name)
                self._do(name, act)
            await asyncio.sleep(self.chance.expovariate(1 / pause_s))
        await self._calm()

    def _note(self, what: str) -> None:
        self.counts[what] += 1
        self.told.append((self.world.loop.at, what))

    def _refill(self) -> None:
        """Whoever runs a fleet starts what has died."""
        chance = self.chance
        while len(self.living("coordinator")) < 2:
            self.world.coordinator()
        while len(self.living("agent")) < 3:
            self.world.agent(
                queues=chance.choice((("default", "other"), ("default", "other"), ("default",))),
                workers=chance.choice((1, 2)),
                concurrency=chance.choice((1, 3)),
                labels={"gpu": "yes"} if chance.random() < 0.5 else {},
                reserve_high=chance.choice((0, 0, 1)),
            )
        while len(self.living("client")) < 2:
            self._client()

    def _client(self) -> None:
        node = self.world.node("client")

        async def run(fleet: Fleet, node: Node) -> None:
            self._fleets[node] = fleet
            await node.stopping.wait()

        node.start(run)

    def _do(self, name: str, act: Act) -> None:
        ready = [node for node in self.living("client") if node in self._fleets]
        if ready:
            node = self.chance.choice(ready)
            self.world.loop.spawn(node.process, self._try(name, self._fleets[node], act))

    async def _try(self, name: str, fleet: Fleet, act: Act) -> bool:
        try:
            async with asyncio.timeout(ACT_TIMEOUT_S):
                await act(fleet)
        except (FleetlogError, InvalidInput, TimeoutError) as error:
            self.refused[f"{name}: {type(error).__name__}"] += 1
            return False
        return True

    async def _calm(self) -> None:
        """No more faults; what waits for people gets what it needs; then everything has to end."""
        world = self.world
        self._note("quiet")
        await asyncio.sleep(50.0)
        world.network.loss = 0.0
        self._is_quiet = True
        for node in world.nodes:
            node.machine.clock.skew = timedelta()
        self._refill()
        world.agent(queues=("default", "other"), labels={"gpu": "yes"}, workers=2, concurrency=4)
        await asyncio.sleep(10.0)
        until = world.loop.at + SETTLE_S
        while world.loop.at < until:
            self._refill()
            await self._help()
            await asyncio.sleep(LOOK_S)
            self.unsettled = self._open()
            if not self.unsettled:
                await asyncio.sleep(5.0)
                self.unsettled = self._open()
                if not self.unsettled:
                    return

    async def _help(self) -> None:
        """Widens what bounds, resumes what pauses, answers what asks."""
        ready = [node for node in self.living("client") if node in self._fleets]
        if not ready:
            return
        node = ready[0]
        fleet = self._fleets[node]
        acts: list[Act] = [_widen(key) for key in LIMIT_KEYS] if self._is_quiet else []
        acts += [_enrich(key) for key in (*BUDGETS, *self._exhausted())]
        if self._is_quiet:
            acts += [_end_schedule(name) for name in SCHEDULES]
            acts += [_open_queue(queue) for queue in set(QUEUES)]
            acts += [_resume(name) for name in CREDENTIALS]
        acts += [_answer(task_id) for task_id in self._asking()]
        done = True
        for act in acts:
            done &= await self.world.loop.spawn(node.process, self._try("help", fleet, act))
        self._is_quiet = self._is_quiet and not done

    def _exhausted(self) -> list[str]:
        return sorted(
            {json.loads(k.data)["key"] for k in self.world.log if k.subject.endswith(".exhausted")}
        )

    def _asking(self) -> list[str]:
        last = self._last_events()
        return [
            task_id
            for task_id, (verb, data) in last.items()
            if verb == "returned" and b'"question"' in data
        ]

    def _last_events(self) -> dict[str, tuple[str, bytes]]:
        found: dict[str, tuple[str, bytes]] = {}
        for kept in self.world.log:
            words = kept.subject.split(".")
            if words[2] == "task":
                verb = words[-1]
                if verb != "cancel_requested" or words[3] not in found:
                    found[words[3]] = (verb, kept.data)
        return found

    def _open(self) -> list[str]:
        return [
            f"{task_id} {verb}"
            for task_id, (verb, _) in self._last_events().items()
            if verb not in TERMINAL
        ]


def _widen(key: str) -> Act:
    return lambda fleet: set_limit(fleet, limit(fleet, key, None, None))


def _enrich(key: str) -> Act:
    amounts = Budget(wall_ms=10**12)
    return lambda fleet: set_budget(fleet, budget(fleet, key, amounts, is_reset=True))


def _end_schedule(name: str) -> Act:
    async def end(fleet: Fleet) -> None:
        try:
            await change_schedule(fleet, name, "removed")
        except ScheduleNotFound:
            return

    return end


def _open_queue(queue: str) -> Act:
    return lambda fleet: set_paused(fleet, queue, is_paused=False, actor=None, reason=None)


def _resume(name: str) -> Act:
    return lambda fleet: resume(fleet.log, name, credential_resumption(fleet))


def _answer(task_id: str) -> Act:
    return lambda fleet: answer_task(fleet, task_id, "this")
