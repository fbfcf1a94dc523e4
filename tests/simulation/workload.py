"""What users of a simulated fleet do: any of it at any time, by one die."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from fleetlog.bus.answering import answer_task
from fleetlog.bus.bounds import set_budget, set_limit
from fleetlog.bus.call import call
from fleetlog.bus.cancelling import abandon, cancel_task
from fleetlog.bus.client import Client
from fleetlog.bus.credentials import pause, resume
from fleetlog.bus.fan_out import FanOut
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.queues import set_paused
from fleetlog.bus.reviving import revive
from fleetlog.bus.schedules import Wanted, change_schedule, set_schedule
from fleetlog.schemas.budgets import Budget
from fleetlog.schemas.events import BudgetSet, CredentialPaused, CredentialResumed, LimitSet
from fleetlog.schemas.specs import Backoff, TaskSpec

QUEUES = ("default", "default", "other")
LIMITS = ("disk", "user:ann", "user:bob", "api")
LIMIT_KEYS = ("disk", "user:*", "user:ann", "api")
BUDGETS = ("team", "night")
KEYS = tuple(f"key{n}" for n in range(8))
SCHEDULES = ("tick", "tock")
CREDENTIALS = ("robot",)
"""An agent CLI that no worker here has: its attempts fail at once."""
ENDLESS_MS = 10_000_000
"""What takes so long is only ever ended by others."""

Act = Callable[[Fleet], Awaitable[Any]]


class Deed(NamedTuple):
    """Something that a user does."""

    kind: str
    """What sort of thing."""
    text: str
    """What, for people."""
    do: Act
    """Does it."""


class Workload:
    """Draws what is done next."""

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.known: list[str] = []
        """Ids of tasks so far, for those who cancel and wait."""
        self.barriers: list[str] = []
        """Ids of barriers so far."""
        self._kinds: dict[str, tuple[int, Callable[[], tuple[str, Act]]]] = {
            "submit": (30, self._submit),
            "submit many": (6, self._submit_many),
            "submit by key": (8, self._submit_by_key),
            "fan out": (8, self._fan_out),
            "split": (6, self._split),
            "gather": (3, self._gather),
            "cancel": (6, self._cancel),
            "abandon": (2, self._abandon),
            "limit": (4, self._limit),
            "budget": (4, self._budget),
            "schedule": (4, self._schedule),
            "change schedule": (4, self._change_schedule),
            "revive": (3, self._revive),
            "answer": (6, self._answer),
            "pause queue": (2, self._pause_queue),
            "resume queue": (3, self._resume_queue),
            "credential": (5, self._credential),
        }

    def draw(self, chance: random.Random) -> Deed:
        """What is done next."""
        self.chance = chance
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        name = chance.choices(names, weights)[0]
        return Deed(name, *self._kinds[name][1]())

    def spec(self) -> TaskSpec:
        """Any task."""
        chance = self.chance
        ms = chance.choice((0, 1, 10, 100, 500, 3_000)) if chance.random() < 0.98 else 20_000
        fails = chance.choice((0, 0, 0, 1, 2, 5))
        how = chance.choice(("error", "error", "retry", "permanent", "ask"))
        rare = chance.random
        is_robot = rare() < 0.08
        spec = call("work", ms=ms, fails=fails, how=how)
        return msgspec.structs.replace(
            spec,
            executor=CREDENTIALS[0] if is_robot else "python",
            queue=chance.choice(QUEUES),
            priority=chance.choice(("normal", "normal", "high", "low")),
            max_attempts=chance.choice((1, 3, 3, 4)),
            backoff=Backoff(first_ms=chance.choice((1, 100, 1_000))),
            delay_ms=chance.choice((0, 0, 0, 200, 2_000)),
            timeout_ms=chance.choice((1_000, 60_000, None)) if rare() < 0.2 else 3_600_000,
            start_within_ms=chance.choice((50, 5_000)) if rare() < 0.1 else None,
            expires_ms=chance.choice((100, 5_000, 60_000)) if rare() < 0.1 else None,
            limits=self._some(LIMITS, 0.15),
            budgets=self._some(BUDGETS, 0.1),
            budget=Budget(wall_ms=chance.choice((50, 5_000))) if rare() < 0.05 else None,
            fair_key=chance.choice(("red", "green")) if rare() < 0.1 or is_robot else None,
            requires={"gpu": "yes"} if rare() < 0.1 else {},
            affinity=chance.choice(("s1", "s2")) if rare() < 0.1 else None,
            affinity_ms=chance.choice((1, 1_000)),
            after=tuple(chance.sample(self.known, 1)) if self.known and rare() < 0.08 else (),
        )

    def _some(self, names: tuple[str, ...], part: float) -> tuple[str, ...]:
        return tuple(name for name in names if self.chance.random() < part)

    def _note(self, task_id: str) -> None:
        self.known.append(task_id)

    def _submit(self) -> tuple[str, Act]:
        spec = self.spec()

        async def do(fleet: Fleet) -> None:
            self._note((await Client(fleet).submit(spec)).task_id)

        return text_of(spec), do

    def _submit_many(self) -> tuple[str, Act]:
        specs = [self.spec() for _ in range(self.chance.choice((2, 20, 60)))]

        async def do(fleet: Fleet) -> None:
            for submitted in await Client(fleet).submit_many(specs):
                self._note(submitted.task_id)

        return f"{len(specs)} tasks", do

    def _submit_by_key(self) -> tuple[str, Act]:
        chance = self.chance
        key = chance.choice(KEYS)
        spec = call("work", ms=chance.choice((1, 2)), fails=chance.choice((0, 0, 2)))
        spec = msgspec.structs.replace(spec, queue=chance.choice(QUEUES))
        policy = chance.choice(("return", "replace", "replace", "refuse"))

        async def do(fleet: Fleet) -> None:
            submitted = await Client(fleet).submit(spec, key=key, on_duplicate=policy)
            self._note(submitted.task_id)

        return f"{key}, {policy} if it is there", do

    def _fan_out(self) -> tuple[str, Act]:
        chance = self.chance
        members: list[TaskSpec | str] = [self._member() for _ in range(chance.choice((0, 1, 3, 8)))]
        members += chance.sample(self.known, min(len(self.known), chance.choice((0, 0, 2))))
        policy = chance.choice(("settled", "settled", "all", "any", "quorum"))
        deadline = chance.choice((None, None, 0.5, 5))
        stragglers = chance.choice(("cancel", "wait"))
        if deadline is not None and stragglers == "cancel" and chance.random() < 0.5:
            members.append(call("work", ms=ENDLESS_MS))
        wanted = FanOut(
            list(dict.fromkeys(members))
            if not any(isinstance(m, TaskSpec) for m in members)
            else members,
            then=chance.choice((None, call("join"), call("work", ms=5))),
            policy=policy,
            quorum=max(1, len(members) // 2) if policy == "quorum" else None,
            deadline=deadline,
            stragglers=stragglers,
        )

        async def do(fleet: Fleet) -> None:
            handle = await Client(fleet).fan_out(wanted)
            self.barriers.append(handle.barrier_id)

        return f"{len(wanted.members)} members, {policy}, {wanted.stragglers}", do

    def _member(self) -> TaskSpec:
        spec, chance = self.spec(), self.chance
        if chance.random() < 0.1:
            # A task of its own for whoever submits that key; two of one fan-out are refused.
            spec = msgspec.structs.replace(spec, key=chance.choice(KEYS), after=())
        return spec

    def _split(self) -> tuple[str, Act]:
        chance = self.chance
        spec = call(
            "split",
            ms=chance.choice((1, 500)),
            count=chance.choice((1, 2, 5)),
            policy=chance.choice(("settled", "all", "any")),
            depth=chance.choice((0, 1, 2)),
        )
        if chance.random() < 0.2:
            spec = msgspec.structs.replace(spec, budget=Budget(wall_ms=chance.choice((1, 500))))
        return self._submitting(spec, regret_s=chance.choice((None, 0.3, 0.7, 1.5)))

    def _gather(self) -> tuple[str, Act]:
        return self._submitting(call("gather", ms=self.chance.choice((1, 100)), count=3))

    def _submitting(self, spec: TaskSpec, *, regret_s: float | None = None) -> tuple[str, Act]:
        async def do(fleet: Fleet) -> None:
            submitted = await Client(fleet).submit(spec)
            self._note(submitted.task_id)
            if regret_s is not None:
                await fleet.system.clock.sleep(regret_s)
                await cancel_task(fleet, submitted.task_id, reason="on second thoughts")

        return text_of(spec), do

    def _any_task(self) -> str:
        return self.chance.choice(self.known) if self.known else "nobody"

    def _cancel(self) -> tuple[str, Act]:
        task_id = self._any_task()
        return task_id, lambda fleet: cancel_task(fleet, task_id, reason="changed my mind")

    def _abandon(self) -> tuple[str, Act]:
        barrier_id = self.chance.choice(self.barriers) if self.barriers else "nothing"
        return barrier_id, lambda fleet: abandon(fleet, barrier_id)

    def _limit(self) -> tuple[str, Act]:
        chance = self.chance
        key, concurrency = chance.choice(LIMIT_KEYS), chance.choice((None, 1, 2, 3))
        rate = chance.choice((None, None, 5))

        async def do(fleet: Fleet) -> None:
            await set_limit(fleet, limit(fleet, key, concurrency, rate))

        return f"{key} to {concurrency} at once, {rate} a second", do

    def _budget(self) -> tuple[str, Act]:
        key = self.chance.choice(BUDGETS)
        wall_ms = self.chance.choice((100, 2_000, 100_000))
        action = self.chance.choice(("warn", "hold", "stop"))
        is_reset = self.chance.random() < 0.3

        async def do(fleet: Fleet) -> None:
            amounts = Budget(wall_ms=wall_ms, action=action)
            await set_budget(fleet, budget(fleet, key, amounts, is_reset=is_reset))

        return f"{key} to {wall_ms} ms, {action}", do

    def _schedule(self) -> tuple[str, Act]:
        name, every_ms = self.chance.choice(SCHEDULES), self.chance.choice((1_000, 2_500))
        overlap = self.chance.choice(("allow", "skip"))
        spec = call("work", ms=self.chance.choice((1, 3_000)))
        wanted = Wanted(spec=spec, every_ms=every_ms, overlap=overlap)
        text = f"{name} every {every_ms} ms, overlaps: {overlap}"
        return text, lambda fleet: set_schedule(fleet, name, wanted, is_replacing=True)

    def _change_schedule(self) -> tuple[str, Act]:
        name = self.chance.choice(SCHEDULES)
        verb = self.chance.choice(("removed", "paused", "resumed"))
        return f"{name} {verb}", lambda fleet: change_schedule(fleet, name, verb)

    def _revive(self) -> tuple[str, Act]:
        task_id = self._any_task()

        async def do(fleet: Fleet) -> None:
            self._note((await revive(fleet, task_id)).task_id)

        return task_id, do

    def _answer(self) -> tuple[str, Act]:
        task_id = self._any_task()
        return task_id, lambda fleet: answer_task(fleet, task_id, "this")

    def _pause_queue(self) -> tuple[str, Act]:
        queue = self.chance.choice(QUEUES)
        return queue, lambda fleet: set_paused(
            fleet, queue, is_paused=True, actor=None, reason=None
        )

    def _resume_queue(self) -> tuple[str, Act]:
        queue = self.chance.choice(QUEUES)
        return queue, lambda fleet: set_paused(
            fleet, queue, is_paused=False, actor=None, reason=None
        )

    def _credential(self) -> tuple[str, Act]:
        name, is_paused = self.chance.choice(CREDENTIALS), self.chance.random() < 0.6
        if is_paused:
            return f"{name} is paused", lambda fleet: pause(
                fleet.log, name, credential_pause(fleet)
            )
        return f"{name} is resumed", lambda fleet: resume(
            fleet.log, name, credential_resumption(fleet)
        )


def text_of(spec: TaskSpec) -> str:
    """A task in few words."""
    said = msgspec.json.decode(msgspec.json.encode(spec))
    said.pop("timeout_ms", None)
    return " ".join(
        f"{name}={value}" for name, value in said.items() if value not in ({}, [], None)
    )


def credential_pause(fleet: Fleet) -> CredentialPaused:
    """The event of a pause without an end."""
    return CredentialPaused(
        id=fleet.system.new_id(), occurred_at=fleet.log.now(), error_class="usage_limit", error="no"
    )


def credential_resumption(fleet: Fleet) -> CredentialResumed:
    """The event of its end."""
    return CredentialResumed(id=fleet.system.new_id(), occurred_at=fleet.log.now())


def limit(fleet: Fleet, key: str, concurrency: int | None, rate: int | None) -> LimitSet:
    """The event of a limit."""
    return LimitSet(
        id=fleet.system.new_id(),
        occurred_at=fleet.log.now(),
        key=key,
        concurrency=concurrency,
        rate=rate,
    )


def budget(fleet: Fleet, key: str, amounts: Budget, *, is_reset: bool) -> BudgetSet:
    """The event of a budget."""
    return BudgetSet(
        id=fleet.system.new_id(),
        occurred_at=fleet.log.now(),
        key=key,
        budget=amounts,
        is_reset=is_reset,
    )
