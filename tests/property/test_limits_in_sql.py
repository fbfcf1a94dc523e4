"""What SQL tells of limits and budgets is what the fold of the log holds, however that is cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.projection_rows import rows
from support.stores import empty_store

from fleetlog.bus.core import (
    Claim,
    Complete,
    Fail,
    Hold,
    OfferAgain,
    Queue,
    RequestCancel,
    Return,
    Submit,
    Task,
    decide,
    evolve,
)
from fleetlog.bus.core.commands import Cancel, Expire
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.unsettled import Unsettled
from fleetlog.projections.store import Store
from fleetlog.schemas.budgets import Budget, Spent
from fleetlog.schemas.envelope import open_stored
from fleetlog.schemas.events import (
    BudgetExhausted,
    BudgetSet,
    Event,
    LimitAdmitted,
    LimitSet,
    Usage,
)
from fleetlog.schemas.ids import key_token
from fleetlog.schemas.specs import TaskSpec, payload_digest
from tests.unit.projections.histories import FLEET, T0, Log, make

pytestmark = pytest.mark.usefixtures("unmeasured")

LIMITS: Final = ("api", "user:ann", "user:bob", "user:*", "two words")
BUDGETS: Final = ("b", "team/é", "k" * 200)
KEYED: Final = "k0123456789abcdef0123456789abcdef"
ROOTS: Final = ("t0", "t1", KEYED)
TASKS: Final = (*ROOTS, "t3", "t4", "t5")
"""Those that the world begins with; after one that has settled comes a new one."""

ENDS: Final = ("complete", "fail", "fail", "return", "return", "take", "cancel", "end")
NEXT: Final = {
    "absent": ("submit",),
    "held": (*("queue",) * 8, "end", "expire"),
    "queued": (*("claim",) * 8, "recall", "recall", "again", "end", "expire"),
    "claimed": ENDS,
    "waiting": (*("queue",) * 8, "end"),
}
"""What may become of a task, by its state."""


class World:
    """Writes a log as a fleet would whose coordinator does not care what limits and budgets say."""

    def __init__(self, random: Random) -> None:
        self.log = Log()
        self.random = random
        self.now_ms = 0
        self.tasks = {name: Task(id=name) for name in TASKS}
        self.admissions = dict.fromkeys(LIMITS, 0)

    def step(self) -> None:
        # Clocks are set back now and then: no time that an attempt ran is below nothing.
        self.now_ms = max(0, self.now_ms + self.random.choice((0, 1, 999, 1_000, 7_777, -3_000)))
        match what := self.pick((*("task",) * 8, "set", "admit", "bound", "tell", "break")):
            case "set" | "admit":
                self._write(
                    f"limit.{key_token(key := self.pick(LIMITS))}", self._of_limit(what, key)
                )
            case "bound" | "tell":
                key = self.pick((*BUDGETS, *ROOTS))
                self._write(f"budget.{key_token(key)}", self._of_budget(what, key))
            case "break":
                subject = self.pick(("limit.api", "budget.b", f"budget.{key_token(KEYED)}"))
                self._raw(f"{subject}.set", b'{"type":"budget.set","id":"e","v":1,"key":7}')
            case _:
                task = self.tasks[self.pick(tuple(self.tasks))]
                self._of_task(self.pick(NEXT[task.status]), task)

    def pick(self, choices: tuple[Any, ...]) -> Any:
        return self.random.choice(choices)

    def _write(self, thing: str, event: Event) -> None:
        self._raw(
            f"{thing}.{event.__struct_config__.tag.partition('.')[2]}", msgspec.json.encode(event)
        )

    def _raw(self, subject: str, data: bytes) -> None:
        at_ns = int(T0.timestamp()) * 10**9 + self.now_ms * 10**6 + self.random.randrange(10**6)
        self.log.raw(subject, data, at_ns=at_ns)

    def _of_limit(self, what: str, key: str) -> Event:
        if what == "set":
            rate, burst = self.pick((None, 3)), self.pick((None, 1))
            bounds = {"concurrency": self.pick((None, 0, 2)), "rate": rate, "burst": burst}
            return make(LimitSet, key=key, **bounds)
        names = TASKS[: self.random.randrange(4)]
        self.admissions[key] += len(names)
        return make(LimitAdmitted, key=key, tasks=names)

    def _of_budget(self, what: str, key: str) -> Event:
        if what == "tell":
            spent = Spent(tokens=self.random.randrange(9))
            return make(BudgetExhausted, key=key, resource="tokens", action="hold", spent=spent)
        return make(BudgetSet, key=key, budget=self._budget(), is_reset=self.random.random() < 0.3)

    def _budget(self) -> Budget:
        action = self.pick(("warn", "hold", "stop"))
        amounts = [self.pick((None, 0, 9, 30, 10**6)) for _ in range(3)]
        return Budget(
            tokens=amounts[0], cost_micro_usd=amounts[1], wall_ms=amounts[2], action=action
        )

    def _of_task(self, what: str, task: Task) -> None:
        now = T0 + timedelta(days=1)
        event = decide(self._command(what, task), task, now)
        if isinstance(event, Event):
            self._write(f"task.{task.id}.default.normal", event)
            task = evolve(task, open_stored(self.log.messages[-1]))
            self.tasks[task.id] = task
        if task.is_settled:
            del self.tasks[task.id]
            name = f"n{self.log.next_seq}"
            self.tasks[name] = Task(id=name)

    def _spec(self, task_id: str) -> TaskSpec:
        return TaskSpec(
            handler="h",
            limits=tuple(self.random.sample(LIMITS, self.random.randrange(3))),
            budgets=tuple(self.random.sample((*BUDGETS, *ROOTS), self.random.randrange(3))),
            budget=self._budget() if task_id in ROOTS and self.random.random() < 0.8 else None,
            expires_ms=self.pick((None, None, None, 1)),
            max_attempts=9,
        )

    def _command(self, what: str, task: Task) -> AnyCommand:
        usage = Usage(input_tokens=self.random.randrange(5), output_tokens=2, cost_micro_usd=7)
        ending: dict[str, Any] = {
            "id": "c",
            "fence": task.lease.fence if task.lease else 1,
            "ran_ms": self.pick((None, None, 0, 5, -4, 2_000)),
            "usage": self.pick((None, usage)),
        }
        place = {"agent_id": "a", "worker_id": "w", "host": "h"}
        match what:
            case "submit":
                spec = self._spec(task.id)
                return Submit(id="c", spec=spec, digest=payload_digest(spec))
            case "queue":
                return Queue(id="c", is_open=True, is_admitted=True)
            case "claim" | "take":
                over = ending["fence"] if what == "take" else None
                return Claim(id="c", offer=task.offer, over=over, **place)
            case "complete":
                return Complete(result=msgspec.Raw(b"null"), **ending)
            case "fail":
                return Fail(error_class="error", error="no", jitter=0.0, **ending)
            case "return":
                lost = self.pick(("lost", "drained", "drained"))
                return Return(error_class=lost, error="gone", **ending)
            case "again":
                return OfferAgain(id="c", offer=task.offer)
            case "recall":
                return Hold(id="c")
            case "cancel":
                return RequestCancel(id="c")
            case "end":
                return Cancel(**ending)
            case _:
                return Expire(id="c")


@pytest.fixture(scope="module")
def make_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Store]:
    folder = tmp_path_factory.mktemp("stores")
    numbers = iter(range(10**6))
    return lambda: empty_store(folder / f"{next(numbers)}.duckdb", FLEET)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 200),
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
)
def test_limits_and_budgets_are_what_the_fold_holds(
    make_store: Callable[[], Store], seed: int, steps: int, cuts: list[int]
) -> None:
    world, fold = World(Random(seed)), Unsettled()
    for _ in range(steps):
        world.step()
    live, rebuilt = make_store(), make_store()
    try:
        for batch in cut(world.log.messages, cuts):
            live.apply(batch)
            for message in batch:
                fold.take(message)
            compare_limits(live, fold)
            compare_budgets(live, fold)
        assert fold.violation_count == 0
        for row in rows(live, "FROM limits"):
            assert row["admissions"] == world.admissions[row["key"]]
        rebuilt.apply(world.log.messages)
        assert rebuilt.digests() == live.digests()
    finally:
        live.close()
        rebuilt.close()


def cut(messages: list[Any], cuts: list[int]) -> Iterator[list[Any]]:
    position, turn = 0, 0
    while position < len(messages):
        size = cuts[turn % len(cuts)]
        yield messages[position : position + size]
        position, turn = position + size, turn + 1


def compare_limits(store: Store, fold: Unsettled) -> None:
    admission = fold.admission
    found = {row["key"]: row for row in rows(store, "FROM limits")}
    named = {key for task in fold.tasks.values() if task.spec for key in task.spec.limits}
    was_set = {limit.key for limit in admission.bounds.limits.values() if limit.setting is not None}
    assert set(found) == named | was_set
    for key, row in found.items():
        assert row["holders"] == len(admission._holders.of(key_token(key)))
        assert row["waiting"] == sum(
            task.status in ("held", "waiting") and task.spec is not None and key in task.spec.limits
            for task in fold.tasks.values()
        )
        setting = admission.bounds.setting_of(key)
        assert row["setting_key"] == (setting.key if setting else None)
        bounds = (setting.concurrency, setting.rate) if setting else (None, None)
        assert (row["concurrency"], row["rate"]) == bounds
        if setting is not None and setting.rate is not None:
            assert (row["per_ms"], row["burst"]) == (
                *(setting.per_ms, setting.burst or setting.rate),
            )


def compare_budgets(store: Store, fold: Unsettled) -> None:
    admission = fold.admission
    found = {key_token(row["key"]): row for row in rows(store, "FROM budgets")}
    assert set(found) >= {
        token for token, state in admission.budgets.items() if state.budget is not None
    }
    for token, row in found.items():
        state = admission.budgets[token]
        assert row["key"] == state.key or state.budget is None
        spent = (row["spent_tokens"], round(row["spent_cost_usd"] * 10**6), row["spent_wall_ms"])
        assert spent == msgspec.structs.astuple(state.spent)
        assert row["open_tasks"] == len(admission._under.of(token))
        assert row["exhausted_resource"] == state.exhausted
        assert row["state"] == ("open" if state.exhausted is None else "exhausted")
        if state.budget is not None:
            assert (row["tokens"], row["wall_ms"], row["action"]) == (
                *(state.budget.tokens, state.budget.wall_ms, state.budget.action),
            )
            cost = row["cost_usd"]
            assert state.budget.cost_micro_usd == (None if cost is None else round(cost * 10**6))
            is_told = state.exhausted is not None and state.told == state.budget
            assert (row["exhausted_at"] is not None) == is_told
