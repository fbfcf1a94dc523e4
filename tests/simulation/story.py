"""A run: what is done to a fleet and what befalls it, from one seed; then quiet, and everything must end."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from fleetlog.bus.answering import answer_task
from fleetlog.bus.bounds import set_budget, set_limit
from fleetlog.bus.call import call
from fleetlog.bus.credentials import resume
from fleetlog.bus.errors import FleetlogError, ScheduleNotFound
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.queues import set_paused
from fleetlog.bus.schedules import Wanted, change_schedule, set_schedule
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.errors import InvalidInput
from simulation.fleet import NAME, Node, World
from simulation.invariants import Judge, Message, Tolerance, Violation
from simulation.machine import FREE_BYTES
from simulation.server import Manners
from simulation.workload import (
    BUDGETS,
    CREDENTIALS,
    LIMIT_KEYS,
    QUEUES,
    SCHEDULES,
    Act,
    Deed,
    Workload,
    budget,
    credential_resumption,
    limit,
)

LAG_MS = 5_000
"""So old may be what a process believes."""
TROUBLED_LAG_MS = 120_000
"""And so old if it stood still, was cut off, and the server was gone."""
SETTLE_S = 300.0
"""After the faults, everything has settled within this time of the simulation."""
LOOK_S = 1.0
CALM_S = 5.0
BEAT_S = 3.5
"""At the end a schedule goes on for so long: the last of its tasks has half a second."""
ACT_TIMEOUT_S = 60.0
USUAL_S = (0.0001, 0.002)
COMPARED_SEEDS_APART = 20
"""Of one seed of so many the projection is compared with the fold."""
UNSYNCED_S = 1.0
"""What `relaxed` durability may lose."""
LOSS_PART = 0.3
"""Of the times that a server stops which may lose its last second, it does."""
SERVER_CLOCK_PART = 0.2
"""Of the times that a clock is set, it is the server's."""
JUMPS_S = (-3.0, -0.5, 0.5, 3.0)
SKEW_MS = 6_000
"""So far may two of its messages be apart more, or less, than by the time that passed."""
NOBODY = "nothing happens"
TERMINAL = ("completed", "failed", "cancelled", "expired")


class Trouble:
    """Draws what goes wrong, and does it.

    Args:
        story: whose fleet.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self.chance = random.Random(0)
        self._kinds: dict[str, tuple[int, Callable[[], str]]] = {
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

    def strike(self, chance: random.Random) -> tuple[str, str]:
        """Does something bad; says what kind of thing, and what befell whom."""
        self.chance = chance
        kinds = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        kind = chance.choices(kinds, weights)[0]
        return kind, self._kinds[kind][1]()

    def _one(self, kind: str) -> Node | None:
        living = self._story.living(kind)
        return self.chance.choice(living) if living else None

    def _any(self) -> Node | None:
        living = [node for node in self._story.world.nodes if node.is_alive]
        return self.chance.choice(living) if living else None

    def _kill(self, kind: str) -> str:
        if (node := self._one(kind)) is None:
            return NOBODY
        if self.chance.random() < 0.5:
            node.kill()
            return f"{node.name} is killed"
        # In the midst of what it does: before or after one of its next messages.
        count, is_sent = self.chance.randrange(1, 12), self.chance.random() < 0.5
        node.link.die_at(count, node.kill, is_sent=is_sent)
        return f"{node.name} is killed {'after' if is_sent else 'before'} it sends message {count}"

    def _kill_worker(self) -> str:
        node = self._one("agent")
        if node is None or not node.machine.workers:
            return NOBODY
        worker = self.chance.choice(list(node.machine.workers.values()))
        worker.signal(signal.SIGKILL)
        return f"a worker of {node.name} is killed"

    def _pause(self, kind: str) -> str:
        node = self._one(kind)
        if node is None or node.process.is_paused:
            return NOBODY
        node.process.pause()
        for_s = self.chance.choice((0.5, 3.0, 8.0, 40.0))
        self._story.later(for_s, lambda: node.process.resume(self._story.world.loop))
        return f"{node.name} stands still for {for_s:g} s"

    def _cut(self) -> str:
        if (node := self._any()) is None:
            return NOBODY
        node.link.cut()
        return f"the connection of {node.name} breaks"

    def _stall(self) -> str:
        if (node := self._any()) is None:
            return NOBODY
        for_s = self.chance.choice((1.0, 6.0, 35.0))
        node.link.stall(for_s)
        self._story.recovers_at(for_s)
        return f"nothing gets through to or from {node.name} for {for_s:g} s"

    def _stop_server(self) -> str:
        server = self._story.world.server
        if not server.is_up:
            return NOBODY
        server.stop()
        for_s = self.chance.choice((0.2, 3.0, 45.0))
        if self._story.may_lose and self.chance.random() < LOSS_PART:
            self._story.later(for_s, self._story.start_without_last_second)
            return f"the server is gone for {for_s:g} s, and its last second for ever"
        self._story.later(for_s, server.start)
        return f"the server is gone for {for_s:g} s"

    def _lose(self) -> str:
        network = self._story.world.network
        network.loss, for_s = self.chance.choice((0.01, 0.1)), self.chance.choice((0.5, 5.0))
        self._story.later(for_s, lambda: setattr(network, "loss", 0.0))
        return f"of all messages {network.loss:.0%} are lost for {for_s:g} s"

    def _slow(self) -> str:
        network = self._story.world.network
        network.delay_s = (0.001, self.chance.choice((0.1, 1.0)))
        self._story.later(5.0, lambda: setattr(network, "delay_s", USUAL_S))
        return f"messages take up to {network.delay_s[1]:g} s for 5 s"

    def _clock(self) -> str:
        if (node := self._any()) is None:
            return NOBODY
        ms = self.chance.choice((-3_600_000, -500, 500, 3_600_000))
        if self.chance.random() < SERVER_CLOCK_PART:
            jump_s = self.chance.choice(JUMPS_S)
            self._story.world.server.skew = timedelta(seconds=jump_s)
            self._story.has_jumped = True
            return f"the clock of the server is {jump_s:g} s ahead"
        node.machine.clock.skew = timedelta(milliseconds=ms)
        return f"the clock of {node.name} is {ms} ms ahead"

    def _stop_agent(self) -> str:
        if (node := self._one("agent")) is None:
            return NOBODY
        node.stopping.set()
        return f"{node.name} is told to stop"

    def _strain(self) -> str:
        if (node := self._one("agent")) is None:
            return NOBODY
        gauges = node.machine.gauges
        gauges.free_bytes = 0
        self._story.later(10.0, lambda: setattr(gauges, "free_bytes", FREE_BYTES))
        return f"the disk of {node.name} is full for 10 s"


class Step(NamedTuple):
    """One thing that is done or goes wrong."""

    number: int
    """Its place in the whole story, whatever else of it is told."""
    is_trouble: bool
    """It goes wrong."""
    pause_s: float
    """How long after the one before."""


class Story:
    """See the module.

    Args:
        seed: everything follows from it.
        steps: how many things are done or go wrong.
        only: the numbers of those that are; None: all.
    """

    def __init__(self, seed: int, steps: int, only: frozenset[int] | None = None) -> None:
        self.seed = seed
        chance = random.Random(seed)
        is_replicated = chance.random() < 0.4
        lag_max = chance.choice((0, 3)) if is_replicated else 0
        durability = chance.choice(("relaxed", "always"))
        manners = Manners(is_replicated=is_replicated, lag_max=lag_max)
        self.world = World(chance.getrandbits(64), durability=durability, manners=manners)
        trouble_part = chance.choice((0.0, 0.1, 0.3))
        pause_s = chance.choice((0.01, 0.1, 0.5))
        drawn = (
            Step(number, chance.random() < trouble_part, chance.expovariate(1 / pause_s))
            for number in range(steps)
        )
        self.steps = [step for step in drawn if only is None or step.number in only]
        self.chance = random.Random(f"{seed} refill")
        self.workload = Workload()
        self.trouble = Trouble(self)
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.told: list[tuple[float, str]] = []
        """What was done and what went wrong, and when."""
        self.troubles: list[tuple[float, str]] = []
        """What kind of thing went wrong, and when."""
        self.bereft: set[str] = set()
        """Things of which the log has lost events, by id and by key, and agents of which it has lost claims."""
        self.has_jumped = False
        """The server's clock was set."""
        self.unsettled: list[str] = []
        """What had not ended long after the end."""
        self._last: dict[str, tuple[str, bytes]] = {}
        self._looked_at = 0
        self._fleets: dict[Node, Fleet] = {}
        self._is_bound = True
        self._recovered_at = 0.0

    def living(self, kind: str) -> list[Node]:
        """The nodes of a kind that live."""
        return [node for node in self.world.nodes if node.name.startswith(kind) and node.is_alive]

    def later(self, delay_s: float, do: Callable[[], object]) -> None:
        """Does something later, whatever happens meanwhile."""
        self.recovers_at(delay_s)
        self.world.server.later(delay_s, lambda: do() and None)

    @property
    def may_lose(self) -> bool:
        """Whether the server may come back without its last second."""
        return self.world.durability == "relaxed" and not self.world.server.manners.is_replicated

    def start_without_last_second(self) -> None:
        """The server's machine had no power: what was not on the disk yet is gone."""
        before = list(self.world.log)
        self.world.server.start(lost_s=UNSYNCED_S)
        for kept in before[len(self.world.log) :]:
            event = json.loads(kept.data)
            named = {kept.subject.split(".")[3], event.get("agent_id"), event.get("key")}
            self.bereft |= {each for each in named if each is not None}

    def recovers_at(self, delay_s: float) -> None:
        """Something is wrong for so long."""
        self._recovered_at = max(self._recovered_at, self.world.loop.at + delay_s)

    def run(self) -> list[Violation]:
        """The whole of it; answers what was wrong."""
        self.world.run(self._run())
        is_troubled = any(step.is_trouble for step in self.steps)
        lag_ms = TROUBLED_LAG_MS if is_troubled else LAG_MS
        skew_ms = SKEW_MS if self.has_jumped else 0
        tolerance = Tolerance(lag_ms=lag_ms, skew_ms=skew_ms, bereft=frozenset(self.bereft))
        judge = Judge(tolerance=tolerance, objects=self.world.objects)
        for kept in self.world.log:
            judge.take(Message(*kept))
        judge.end(is_quiet=True, allowed_open=(), at_ns=self.world.server.now_ns())
        # What the judge can't read, nobody can compare.
        return judge.violations or self._compare()

    def _compare(self) -> list[Violation]:
        if self.seed % COMPARED_SEEDS_APART:
            return []
        # DuckDB is large: only who compares loads it.
        from simulation.projected import differences

        log = [Message(*kept) for kept in self.world.log]
        return differences(self.seed, NAME, log, self.world.objects)

    async def _run(self) -> None:
        self._refill()
        for step in self.steps:
            self._refill()
            chance = random.Random(f"{self.seed} {step.number}")
            if step.is_trouble:
                kind, text = self.trouble.strike(chance)
                self._note(kind, text)
                self.troubles.append((self.world.loop.at, kind))
            else:
                self._do(self.workload.draw(chance), chance)
            await asyncio.sleep(step.pause_s)
        await self._calm()

    def _note(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        self.told.append((self.world.loop.at, text))

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

    def _ready(self) -> list[Node]:
        return [node for node in self.living("client") if node in self._fleets]

    def _do(self, deed: Deed, chance: random.Random) -> None:
        if ready := self._ready():
            node = chance.choice(ready)
            self._note(deed.kind, f"{node.name}: {deed.kind} {deed.text}")
            self.world.loop.spawn(node.process, self._try(deed.kind, self._fleets[node], deed.do))

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
        self._note("quiet", "nothing goes wrong any more")
        for node in world.nodes:
            node.link.live_on()
        await asyncio.sleep(max(0.0, self._recovered_at - world.loop.at) + CALM_S)
        for node in world.nodes:
            node.machine.clock.skew = timedelta()
        self._refill()
        world.agent(queues=("default", "other"), labels={"gpu": "yes"}, workers=2, concurrency=4)
        await asyncio.sleep(CALM_S)
        until = world.loop.at + SETTLE_S
        while world.loop.at < until:
            self._refill()
            await self._help()
            await asyncio.sleep(LOOK_S)
            self.unsettled = self._open()
            if not self.unsettled:
                await asyncio.sleep(CALM_S)
                self.unsettled = self._open()
                if not self.unsettled:
                    await self._beat()
                    return

    async def _beat(self) -> None:
        """One schedule is there until the very end: what it owes then must be made."""
        wanted = Wanted(spec=call("work"), every_ms=1_000)
        if not (ready := self._ready()):
            return
        fleet = self._fleets[ready[0]]
        act = self._try("beat", fleet, lambda fleet: set_schedule(fleet, "beat", wanted))
        await self.world.loop.spawn(ready[0].process, act)
        # The instants of a rule are whole seconds, by the server's clock.
        await asyncio.sleep(BEAT_S - self.world.server.now().microsecond / 1e6)

    async def _help(self) -> None:
        """Widens what bounds, resumes what pauses, answers what asks."""
        if not (ready := self._ready()):
            return
        node = ready[0]
        fleet = self._fleets[node]
        acts: list[Act] = [_widen(key) for key in LIMIT_KEYS] if self._is_bound else []
        acts += [_enrich(key) for key in (*BUDGETS, *self._exhausted())]
        if self._is_bound:
            acts += [_end_schedule(name) for name in SCHEDULES]
            acts += [_open_queue(queue) for queue in set(QUEUES)]
            acts += [_resume(name) for name in CREDENTIALS]
        acts += [_answer(task_id) for task_id in self._asking()]
        done = True
        for act in acts:
            task = self.world.loop.spawn(node.process, self._try("help", fleet, act))
            ended, _ = await asyncio.wait((task,), timeout=ACT_TIMEOUT_S)
            done &= bool(ended) and task.result()
        self._is_bound = self._is_bound and not done

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
        """Of each task, its event that says how it stands."""
        log, last = self.world.log, self._last
        for kept in log[self._looked_at :]:
            words = kept.subject.split(".")
            if words[2] == "task":
                verb = words[-1]
                if verb != "cancel_requested" or words[3] not in last:
                    last[words[3]] = (verb, kept.data)
        self._looked_at = len(log)
        return last

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
