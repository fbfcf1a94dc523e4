"""The coordinators' folds: the real `Unsettled`, and the real `Joiner` that carries out what its `Joins` owe.

A fold changes as it is used. Here each of its states is kept once, under a key of all that can make a
difference, and every change is made to a copy and remembered: an event, a look or an act costs its work once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from fleetlog.bus.core import Refusal, Return, Task
from fleetlog.bus.core.join import (
    Abandon,
    JoinAct,
    LookAt,
    LookBack,
    MakeTask,
    ReadOn,
    Release,
    Tell,
)
from fleetlog.bus.errors import ConflictError
from fleetlog.bus.joining import Joiner
from fleetlog.bus.log import Append
from fleetlog.bus.snapshots import PARTS
from fleetlog.bus.unsettled import Unsettled
from fleetlog.schemas.envelope import Stored
from simulation.worlds import agents, writers
from simulation.worlds.agents import NOW
from simulation.worlds.histories import History
from tests.given import at

ACTS_MAX = 1000
LATE = at(7_200)
"""When every deadline has passed."""
READ_ON = "read on"


class Act(NamedTuple):
    """What a coordinator has decided on and not done yet."""

    kind: str
    """`append`, or what of `Joins` needs more than one guarded append."""
    thing: int = -1
    """The place of what an append speaks of."""
    entry: Append | None = None
    offer: int = 0
    """Of a lost holder: whose delivery ends with it."""
    join: str = ""
    name: str = ""
    is_member: bool = False


class Done(NamedTuple):
    """What came of an act that asked the log."""

    fold: int
    entry: Append | None
    """What it appended."""


class Folds:
    """All states of folds that were met, by number."""

    def __init__(self, places: dict[str, int]) -> None:
        self._places = places
        """Of things, by guard."""
        self._known: list[Unsettled] = []
        self._numbers: dict[object, int] = {}
        self._taken: dict[tuple[int, int, bytes], int] = {}
        self._looked: dict[tuple[int, bool], tuple[int, tuple[Act, ...]]] = {}
        self._done: dict[object, Done] = {}
        self._restored: dict[int, int] = {}
        self.first = self._keep(Unsettled())

    def __len__(self) -> int:
        return len(self._known)

    def place_of(self, entry: Append) -> int:
        """Of the thing that an append speaks of."""
        return self._places[entry.guard]

    def violations(self, fold: int) -> int:
        """Events that the fold did not find allowed."""
        return self._known[fold].violation_count

    def take(self, fold: int, history: History) -> int:
        """The fold with one more event."""
        stored = history.stored
        assert stored is not None
        key = (fold, history.seq, stored.data)
        found = self._taken.get(key)
        if found is None:
            unsettled = _copied(self._known[fold])
            unsettled.take(stored)
            found = self._taken[key] = self._keep(unsettled)
        return found

    def restored(self, fold: int) -> int:
        """What begins with a snapshot of the fold."""
        found = self._restored.get(fold)
        if found is None:
            saved = self._known[fold]
            decode = msgspec.json.decode
            parts = {
                name: [decode(msgspec.json.encode(each), type=PARTS[name]) for each in part]
                for name, part in saved.parts().items()
            }
            tasks = [decode(msgspec.json.encode(each), type=Task) for each in saved.tasks.values()]
            unsettled = Unsettled()
            unsettled.violation_count = saved.violation_count
            unsettled.restore(0, tasks, parts)
            found = self._restored[fold] = self._keep(unsettled)
        return found

    def look(self, fold: int, *, is_late: bool = False) -> tuple[int, tuple[Act, ...]]:
        """What is owed or due in this state, each once; late: deadlines have passed."""
        key = (fold, is_late)
        found = self._looked.get(key)
        if found is None:
            unsettled = _copied(self._known[fold])
            now = LATE if is_late else NOW
            acts = [
                *self._single(unsettled),
                *(self._joint(unsettled, act) for act in unsettled.joins.acts(now, ACTS_MAX)),
            ]
            found = self._keep(unsettled), tuple(act for act in acts if act is not None)
            self._looked[key] = found
        return found

    def late(self, fold: int, name: str) -> int:
        """What has read the log to an end asked for after the deadline of what waits under the name."""
        unsettled = _copied(self._known[fold])
        if (join := unsettled.joins.joins.get(name)) is not None:
            unsettled.joins.pass_deadline(join)
        return self._keep(unsettled)

    def carry_out(self, fold: int, act: Act, log: Sequence[History], cut: Sequence[int]) -> Done:
        """An act that is more than one guarded append, on the log as it is now."""
        key = (fold, act, tuple(log), tuple(cut))
        if (done := self._done.get(key)) is None:
            unsettled = _copied(self._known[fold])
            live = _Log(self._places, log, cut)
            joiner = _joiner(live, unsettled)
            if (join_act := _reopened(unsettled, act)) is not None:
                _finish(joiner.do(join_act))
            done = self._done[key] = Done(self._keep(unsettled), live.appended)
        return done

    def _keep(self, unsettled: Unsettled) -> int:
        # Sequences of different things can't be compared here; whoever compares them is told by `_Log`.
        unsettled.seq = unsettled.joins.seq = 0
        key = _key(unsettled)
        number = self._numbers.setdefault(key, len(self._known))
        if number == len(self._known):
            self._known.append(unsettled)
        return number

    def _single(self, unsettled: Unsettled) -> list[Act]:
        """As `Commander.do` begins."""
        found: list[Act] = []
        for task, command in unsettled.acts(NOW, ACTS_MAX):
            event = agents.decide(command, task, NOW)
            if isinstance(event, Refusal):
                continue
            entry = agents.append_of(agents.subject_of("main", task, event), task.version, event)
            is_loss = isinstance(command, Return) and task.lease is not None
            offer = task.lease.offer if is_loss and task.lease is not None else 0
            found.append(Act("append", self._places[entry.guard], entry, offer))
        return found

    def _joint(self, unsettled: Unsettled, act: JoinAct) -> Act | None:
        match act:
            case MakeTask(join, member):
                return Act("make", join=join.name, name=member.task_id)
            case LookAt(join, name, is_member):
                return Act("look", join=join.name, name=name, is_member=is_member)
            case ReadOn(join):
                return Act(READ_ON, join=join.name, name=join.id)
            case LookBack(barrier_id):
                return Act("look back", name=barrier_id)
            case Release() | Abandon() | Tell():
                capture = _Capture()
                _finish(_joiner(capture, unsettled).do(act))
                if capture.entry is None:
                    return None
                return Act("append", self._places[capture.entry.guard], capture.entry)
            case _:
                raise AssertionError(act)


class _Capture:
    """A log that only learns what is to be appended."""

    def __init__(self) -> None:
        self.entry: Append | None = None

    def now(self) -> Any:
        return NOW

    async def append(self, entry: Append) -> int:
        self.entry = entry
        raise ConflictError("later")

    async def last(self, _guard: str) -> None:
        pass


class _Log:
    """The log at one moment: an append is stored, or settled by evidence, before anyone else acts."""

    def __init__(
        self, places: dict[str, int], histories: Sequence[History], cut: Sequence[int]
    ) -> None:
        self.fleet = "main"
        self._places = places
        self._histories = histories
        self._cut = cut
        self.appended: Append | None = None

    def now(self) -> Any:
        return NOW

    async def append(self, entry: Append) -> int:
        place = self._places[entry.guard]
        history = self._histories[place]
        if history.seq == entry.expected:
            self.appended = entry
            return 10**9
        if writers.evidence(history, entry) == "ours":
            seq = writers.place_of(history, entry)
            return 0 if seq <= self._cut[place] else seq
        raise ConflictError(entry.guard)

    async def read_thing(self, guard: str) -> list[Stored]:
        history = self._histories[self._places[guard]]
        found = [each.stored for each in history.since(history.at(0))]
        return [each for each in found if each is not None]

    async def last(self, guard: str) -> Stored | None:
        return self._histories[self._places[guard]].stored


class _Nothing:
    """Hints, and queues that are there already."""

    def publish(self, *_: object, **__: object) -> None:
        pass

    async def ensure(self, _: object) -> None:
        pass

    async def ensure_for(self, _: object) -> None:
        pass


async def _no_wait(_: int) -> None:
    raise AssertionError("who reads on does it by itself")


def _joiner(log: Any, unsettled: Unsettled) -> Joiner:
    nothing = _Nothing()
    fleet: Any = SimpleNamespace(name="main", log=log, hints=nothing, derived=nothing, objects=None)
    return Joiner(
        fleet,
        unsettled.joins,
        _no_wait,
        lambda: None,
        let_in=unsettled.let_in,
        placed=unsettled.placed,
    )


def _finish(doing: Coroutine[Any, Any, None]) -> None:
    """Runs what never waits."""
    try:
        doing.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


def _reopened(unsettled: Unsettled, act: Act) -> JoinAct | None:
    """The act as the copy of the fold knows it; None if what it was for is over."""
    if act.kind == "look back":
        return LookBack(act.name)
    join = unsettled.joins.joins.get(act.join)
    if join is None:
        return None
    if act.kind == "look":
        return LookAt(join, act.name, act.is_member)
    then = join.plan.then
    member = then if then and then.task_id == act.name else join.unseen.get(act.name)
    return MakeTask(join, member) if member is not None else None


def _copied(unsettled: Unsettled) -> Unsettled:
    memo: dict[int, object] = {}
    frozen: list[Any] = [*unsettled.tasks.values(), *unsettled.agents.values()]
    frozen += unsettled.ended.values()
    for join in unsettled.joins.joins.values():
        frozen += [join.plan, *join.unseen.values()]
    for each in frozen:
        memo[id(each)] = each
    return copy.deepcopy(unsettled, memo)


def _key(unsettled: Unsettled) -> object:
    """All of a fold that can make a difference to what it does."""
    joins = unsettled.joins
    agendas = joins._agendas
    encode: Callable[[object], bytes] = msgspec.json.encode
    return (
        encode(sorted(unsettled.tasks.values(), key=_id_of)),
        encode(sorted([*unsettled.agents.values(), *unsettled.ended.values()], key=_id_of)),
        encode([(name, _plain(join)) for name, join in sorted(joins.joins.items())]),
        tuple((name, _marks(each)) for name, each in sorted(agendas._by_name.items())),
        frozenset(agendas._dirty),
        frozenset(agendas._alarms._set.items()),
        frozenset((each, frozenset(late)) for each, late in joins._late._by_barrier.items()),
        frozenset(joins._late._asked),
        frozenset(unsettled._owed),
        frozenset(due for due in unsettled._due if _is_current(unsettled, due)),
        unsettled.violation_count,
    )


def _id_of(thing: Any) -> str:
    found: str = thing.id
    return found


def _plain(join: Any) -> Any:
    # In which order the culprits ended is told to people only.
    fields = {each: getattr(join, each) for each in join.__struct_fields__}
    fields["culprits"] = sorted(join.culprits)
    fields["own"] = sorted(join.own)
    fields["open"] = sorted(join.open.items())
    fields["unseen"] = sorted(join.unseen)
    return fields


def _marks(agenda: Any) -> object:
    return (
        frozenset(agenda.looks.items()),
        frozenset(agenda.makes),
        frozenset(agenda.made),
        frozenset(agenda.cancels),
        frozenset(agenda.sent),
        agenda.roused_at,
    )


def _is_current(unsettled: Unsettled, due: tuple[Any, str, int]) -> bool:
    task: Task | None = unsettled.tasks.get(due[1])
    return task is not None and task.version == due[2]
