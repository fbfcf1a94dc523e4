"""How large a world is, what may happen in it, and what is there when it begins."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fleetlog.bus.core import Submit, Task
from fleetlog.bus.fanning_out import first_append
from fleetlog.bus.log import Append, entry
from fleetlog.schemas.events import AgentLost, AgentStarted, BarrierOpened, verb_of
from fleetlog.schemas.fan_outs import FanOutSpec, Member, plan_digest, plan_fan_out
from fleetlog.schemas.specs import Backoff, TaskSpec, payload_digest
from fleetlog.schemas.subjects import Subject
from simulation.worlds.agents import NOW, wish
from simulation.worlds.cell import Cell, Client, Ending, stored_in
from simulation.worlds.histories import History, Thing
from simulation.worlds.modes import Modes
from simulation.worlds.server import Server
from simulation.worlds.writers import Writing

BUDGETS: Final = (
    "crashes",
    "pauses",
    "duplicates",
    "losses",
    "cancels",
    "returns",
    "abandons",
    "takeovers",
    "deadlines",
)
FAULTS: Final = frozenset({"crashes", "pauses", "duplicates", "losses", "takeovers"})
"""Those that nobody wants: when they stop, all has to settle."""
BARRIER: Final = "b"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How large a world is, and what may happen in it."""

    tasks: int = 1
    """How many; with a barrier the last one is its continuation, the others are its members."""
    others: int = 0
    """So many of them, before the continuation, are no members."""
    agents: int = 2
    coordinators: int = 1
    barriers: int = 0
    """At most one."""
    gates: int = 0
    """1: without a barrier, the last task is held until all others have completed."""
    policy: str = "settled"
    unmade: int = 0
    """So many of the barrier's tasks, from the last one on, its writer has not made when the world begins."""
    submitters: int = 0
    """The first task is not there yet: so many clients submit it, by one key."""
    endings: tuple[Ending, ...] = ("complete",)
    max_attempts: int = 1
    crashes: int = 0
    """Agents that go down for ever; what they had sent is still on its way."""
    pauses: int = 0
    """Agents that stand still, so that others hold them for dead, and go on at any later time."""
    duplicates: int = 0
    """Offers that are delivered again while their holder lives."""
    losses: int = 0
    """Answers that are lost."""
    cancels: int = 0
    """Clients that ask for the end of a task."""
    returns: int = 0
    """Attempts that are given back."""
    abandons: int = 0
    """Clients that end the barrier."""
    takeovers: int = 0
    """Coordinators that end, and are followed by one that begins with a snapshot, or with nothing."""
    deadlines: int = 0
    """1: the barrier has one, and it may pass at any time."""
    is_replicated: bool = False
    """Of the server: between letting in and storing there is time."""
    is_batching: bool = False
    """Coordinators send what they have decided on as one batch, too."""
    is_prompt: bool = False
    """Coordinators read whatever is stored at once: only their acts get old."""


class Beginning:
    """What is there at first, thing by thing.

    Args:
        plan: of the world.
        server: has stored it.
    """

    def __init__(self, plan: Plan, server: Server) -> None:
        self._plan = plan
        self._server = server
        self._fan_out = _fan_out(plan)
        self.things = _things(plan)
        self.task_places = _task_places(plan)
        self.member_count = plan.tasks - 1 - plan.others if plan.barriers else 0

    def agents(self) -> list[tuple[History, History]]:
        """Of each its history while it is not lost, and after."""
        return [_agent_log(self.things[place]) for place in range(self._plan.agents)]

    def barriers(self) -> list[History]:
        """The barrier, if there is one, with its opening."""
        if self._fan_out is None:
            return []
        event = BarrierOpened(
            id="opened", occurred_at=NOW, fan_out=self._fan_out, digest=plan_digest(self._fan_out)
        )
        opening = entry(Subject("main", "barrier", BARRIER, "opened"), 0, event)
        return [History(self.things[-2]).then(opening.subject, opening.data)]

    def cells(self) -> list[Cell]:
        """The tasks."""
        return [self._cell(n) for n in range(self._plan.tasks)]

    def _cell(self, n: int) -> Cell:
        history = History(self.things[self.task_places[n]])
        if (member := self._member(n)) is not None:
            return self._member_cell(n, history, member)
        if n > 0 or not self._plan.submitters:
            return self._stored(history, self._submitted("a client", n, history.task).writing.entry)
        names = [f"submitter {i + 1}" for i in range(self._plan.submitters)]
        clients = [self._submitted(each, n, history.task) for each in names]
        return Cell(history, clients=tuple(clients))

    def _submitted(self, name: str, n: int, task: Task) -> Client:
        spec = _spec(self._plan)
        if self._plan.gates and n == self._plan.tasks - 1:
            waited_for = [self.things[place].id for place in self.task_places[:n]]
            spec = msgspec.structs.replace(spec, after=tuple(waited_for))
        command = Submit(id=f"submit-by-{name}", spec=spec, digest=payload_digest(spec))
        client = wish(name, "submit", command, task)
        assert client is not None
        return client

    def _member(self, n: int) -> Member | None:
        """What the barrier's opening says of a task, if it does."""
        if self._fan_out is None:
            return None
        if n == self._plan.tasks - 1:
            return self._fan_out.then
        members = self._fan_out.members
        return members[n] if n < len(members) else None

    def _member_cell(self, n: int, history: History, member: Member) -> Cell:
        fleet: Any = _Fleet()
        append = first_append(fleet, BARRIER, member)
        if n < self._plan.tasks - self._plan.unmade:
            return self._stored(history, append)
        return Cell(history, clients=(Client("the writer", "make", Writing(append)),))

    def _stored(self, history: History, append: Append) -> Cell:
        return stored_in(Cell(history), self._server, append)


class _Fleet:
    """What `first_append` asks of a fleet."""

    name = "main"

    @property
    def log(self) -> _Fleet:
        return self

    def now(self) -> Any:
        return NOW


def _things(plan: Plan) -> list[Thing]:
    names = Modes(plan.agents).names
    kinds: list[tuple[Any, str]] = [("agent", name) for name in names]
    if plan.barriers:
        kinds += [("task", f"{BARRIER}-{n + 1}") for n in range(plan.tasks - 1 - plan.others)]
        kinds += [("task", f"t{n + 1}") for n in range(plan.others)]
        kinds += [("barrier", BARRIER), ("task", f"{BARRIER}-then")]
    else:
        kinds += [("task", f"t{n + 1}") for n in range(plan.tasks)]
    return [Thing(place, kind, thing_id) for place, (kind, thing_id) in enumerate(kinds)]


def _task_places(plan: Plan) -> list[int]:
    places = [plan.agents + n for n in range(plan.tasks)]
    if plan.barriers:
        places[-1] += 1
    return places


def _spec(plan: Plan) -> TaskSpec:
    return TaskSpec(handler="h", max_attempts=plan.max_attempts, backoff=Backoff(first_ms=0))


def _fan_out(plan: Plan) -> FanOutSpec | None:
    if not plan.barriers:
        return None
    policy: Any = plan.policy
    members = [_spec(plan)] * (plan.tasks - 1 - plan.others)
    deadline_ms = 3_600_000 if plan.deadlines else None
    return plan_fan_out(BARRIER, members, then=_spec(plan), policy=policy, deadline_ms=deadline_ms)


def _agent_log(thing: Thing) -> tuple[History, History]:
    """An agent's history while it is not lost, and after."""
    started = AgentStarted(
        id="started",
        occurred_at=NOW,
        host=f"h{thing.id}",
        pid=1,
        version="1",
        queues=("default",),
        workers=1,
        concurrency=1,
    )
    lost = AgentLost(id=f"{thing.id}-lost", occurred_at=NOW, silent_ms=4_000)
    appends = [entry(Subject("main", "agent", thing.id, verb_of(e)), 0, e) for e in (started, lost)]
    first = History(thing).then(appends[0].subject, appends[0].data)
    return first, first.then(appends[1].subject, appends[1].data)
