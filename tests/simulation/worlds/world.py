"""A small world: a log, agents, coordinators and clients, and every step that each state of it allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fleetlog.bus.log import Append, entry
from fleetlog.schemas.events import BarrierAbandoned, BarrierReleased
from fleetlog.schemas.subjects import Subject
from simulation.worlds import cell as cells
from simulation.worlds.agents import NOW, Actors
from simulation.worlds.beginning import BARRIER, BUDGETS, FAULTS, Beginning, Plan
from simulation.worlds.cell import Cell
from simulation.worlds.folds import Act, Folds
from simulation.worlds.histories import History
from simulation.worlds.modes import Modes
from simulation.worlds.outcomes import wrong_gate, wrong_opening, wrong_release
from simulation.worlds.seats import Seats, grouped
from simulation.worlds.server import Server

State = tuple[int, ...]
"""Numbers: a cell for each task, the barrier's history, agents, budgets, a seat for each coordinator."""

_DEADLINE_SHIFT = 4 * BUDGETS.index("deadlines")


class Step(NamedTuple):
    """One step out of a state."""

    state: State
    text: str
    is_fault: bool
    wrong: str


class World:
    """All states and steps of one world.

    A coordinator reads to the log's end or not at all: one that stops in between is one that has read before
    the rest was stored.
    """

    def __init__(self, plan: Plan, server: Server | None = None) -> None:
        self.plan = plan
        self.server = server or Server(is_replicated=plan.is_replicated)
        self.modes = Modes(plan.agents)
        self._beginning = Beginning(plan, self.server)
        things = self._beginning.things
        self._cells: list[Cell] = []
        self._cell_numbers: dict[Cell, int] = {}
        self._moves: dict[int, list[tuple[Any, ...]]] = {}
        self._crashed: dict[tuple[int, int], int] = {}
        self._barriers: list[History] = []
        self.actors = Actors(self.server, self.modes.names, plan.endings)
        self.folds = Folds({thing.guard: thing.place for thing in things})
        self.seats = Seats(self.folds, self.server)
        self._agent_logs = self._beginning.agents()
        self._task_places = self._beginning.task_places
        self._n = plan.tasks
        self.first = self._begin()

    @property
    def counts(self) -> dict[str, int]:
        """How many different states of its parts were met."""
        return {
            "cells": len(self._cells),
            "seats": len(self.seats.known),
            "folds": len(self.folds),
        }

    def steps(self, state: State) -> list[Step]:
        """Every step that the state allows."""
        found: list[Step] = []
        self._local_steps(state, found)
        found += self._agent_steps(state)
        found += self._seat_steps(state)
        if self._barriers and not self._barriers[state[self._n]].reading.end:
            found += self._abandon_steps(state)
            found += self._deadline_steps(state)
        return found

    def is_settled(self, state: State) -> bool:
        """Whether all that was accepted has come to its end."""
        if any(not self._cells[each].history.reading.end for each in state[: self._n]):
            return False
        return not self._barriers or bool(self._barriers[state[self._n]].reading.end)

    def wrong_fold(self, state: State) -> str:
        """What a coordinator has found in the log that must not be there."""
        known = self.seats.known
        for number in state[self._n + 3 :]:
            if self.folds.violations(known[number].fold):
                return "a coordinator read an event that its fold does not allow"
        return ""

    # Where it begins.

    def _begin(self) -> State:
        numbers = [self._number(cell) for cell in self._beginning.cells()]
        self._barriers += self._beginning.barriers()
        budgets = sum(getattr(self.plan, name) << 4 * i for i, name in enumerate(BUDGETS))
        state = (*numbers, 0, self.modes.first, budgets)
        seat = self.seats.begin(self._log(state))
        return (*state, *[seat] * self.plan.coordinators)

    def _stored(self, cell: Cell, append: Append) -> Cell:
        return cells.stored_in(cell, self.server, append)

    # Parts by their numbers.

    def _number(self, cell: Cell) -> int:
        number = self._cell_numbers.setdefault(cell, len(self._cells))
        if number == len(self._cells):
            self._cells.append(cell)
        return number

    def _barrier_number(self, history: History) -> int:
        if history not in self._barriers:
            self._barriers.append(history)
        return self._barriers.index(history)

    def _log(self, state: State) -> tuple[History, ...]:
        """The history of each thing, by its place."""
        n, cells = self._n, self._cells
        mode = self.modes.of(state[n + 1])
        logs = [each[mode.is_lost[i]] for i, each in enumerate(self._agent_logs)]
        logs += [cells[each].history for each in state[:n]]
        if self._barriers:
            logs.insert(-1, self._barriers[state[n]])
        return tuple(logs)

    # What agents and clients do to one task.

    def _compiled(self, number: int) -> list[tuple[Any, ...]]:
        cell = self._cells[number]
        found: list[tuple[Any, ...]] = []
        for move in self.actors.moves(cell):
            if move.cell == cell and not move.wrong:
                continue
            shift = 4 * BUDGETS.index(move.budget) if move.budget else -1
            is_append = move.cell.history is not cell.history
            found.append(
                (
                    *(self._number(move.cell), move.agent, move.is_delivery, move.dead),
                    *(move.robbed, shift, is_append, move.is_fault or move.budget in FAULTS),
                    *(move.text, move.wrong),
                )
            )
        self._moves[number] = found
        return found

    def _local_steps(self, state: State, found: list[Step]) -> None:
        n = self._n
        mode, budgets = self.modes.of(state[n + 1]), state[n + 2]
        for i in range(n):
            moves = self._moves.get(state[i])
            if moves is None:
                moves = self._compiled(state[i])
            head, tail = state[:i], state[i + 1 :]
            for (
                to,
                agent,
                is_delivery,
                dead,
                robbed,
                shift,
                is_append,
                is_fault,
                text,
                wrong,
            ) in moves:
                if agent >= 0 and not (mode.takes if is_delivery else mode.is_up)[agent]:
                    continue
                if dead >= 0 and not mode.is_silent[dead]:
                    continue
                after = (*head, to, *tail)
                if shift >= 0:
                    if not (budgets >> shift) & 15:
                        continue
                    after = (*after[: n + 2], budgets - (1 << shift), *after[n + 3 :])
                if is_delivery:
                    after = (*after[: n + 1], mode.touched[agent], *after[n + 2 :])
                if is_append:
                    after = self._appended(after, i)
                    found.append(Step(after, text, is_fault, wrong or self._wrong_task(after, i)))
                elif robbed >= 0 and mode.has_lived[robbed]:
                    robbery = f"{self.modes.names[robbed]} lives, and is to lose its lease"
                    found.append(Step(after, text, is_fault, robbery))
                else:
                    found.append(Step(after, text, is_fault, wrong))

    def _appended(self, state: State, i: int) -> State:
        """After an append to task `i`: coordinators' appends that it has made void are gone."""
        history = self._cells[state[i]].history
        return self._pruned(state, self._task_places[i], history)

    def _pruned(self, state: State, place: int, history: History) -> State:
        n = self._n + 3
        seats = [self.seats.pruned(each, place, history) for each in state[n:]]
        if self.plan.is_prompt:
            log = self._log(state)
            is_late = self._is_late(state)
            seats = [self.seats.read(each, log, is_late=is_late) for each in seats]
        return (*state[:n], *sorted(seats))

    def _wrong_task(self, state: State, i: int) -> str:
        history = self._cells[state[i]].history
        if history.reading.wrong:
            return history.reading.wrong
        if i == self._n - 1 and self._barriers:
            return wrong_opening(history, self._barriers[state[self._n]])
        if i == self._n - 1 and self.plan.gates:
            return wrong_gate(history, [self._cells[each].history for each in state[:i]])
        return ""

    # What befalls agents.

    def _agent_steps(self, state: State) -> Iterator[Step]:
        n = self._n
        mode, budgets = self.modes.of(state[n + 1]), state[n + 2]
        for agent, name in enumerate(self.modes.names):
            for change in self.modes.changes(mode, agent):
                left, tasks = budgets, state[:n]
                if change.budget:
                    shift = 4 * BUDGETS.index(change.budget)
                    if not (budgets >> shift) & 15:
                        continue
                    left -= 1 << shift
                if change.budget == "crashes":
                    tasks = tuple(self._without(each, agent) for each in tasks)
                after = (*tasks, state[n], change.number, left, *state[n + 3 :])
                if change.is_loss and not self.plan.coordinators:
                    continue
                if change.is_loss:
                    after = self._pruned(after, agent, self._log(after)[agent])
                yield Step(after, f"{name} {change.text}", bool(change.budget), "")

    def _without(self, number: int, agent: int) -> int:
        found = self._crashed.get((number, agent))
        if found is None:
            found = self._number(self.actors.without(self._cells[number], agent))
            self._crashed[number, agent] = found
        return found

    # What coordinators do.

    def _seat_steps(self, state: State) -> Iterator[Step]:
        first = self._n + 3
        log: tuple[History, ...] = ()
        is_late = self._is_late(state)
        for place in range(first, len(state)):
            number = state[place]
            if place > first and number == state[place - 1]:
                continue  # two that are in one state are one
            log = log or self._log(state)
            seat = self.seats.known[number]
            name = f"coordinator {place - first + 1}"
            if seat.cut != log or is_late:
                seat_after = self.seats.read(number, log, is_late=is_late)
                if seat_after != number:
                    text = f"{name} reads the log to its end and looks what is to do"
                    yield Step(self._seated(state, place, seat_after), text, False, "")
            for act in seat.acts:
                yield from self._act(state, place, name, act, log)
            yield from self._takeovers(state, place, name, log)
            if self.plan.is_batching:
                yield from self._batch(state, place, name, log)

    def _takeovers(
        self, state: State, place: int, name: str, log: tuple[History, ...]
    ) -> Iterator[Step]:
        n, shift = self._n, 4 * BUDGETS.index("takeovers")
        if not (state[n + 2] >> shift) & 15:
            return
        left = (*state[: n + 2], state[n + 2] - (1 << shift), *state[n + 3 :])
        is_late = self._is_late(state)
        begun = self._seated(left, place, self.seats.begin(log, is_late=is_late))
        yield Step(begun, f"{name} ends, another one reads the whole log", True, "")
        saved = self.seats.begin_with(state[place], log, is_late=is_late)
        begun = self._seated(left, place, saved)
        yield Step(begun, f"{name} ends, another one begins with its snapshot", True, "")

    def _seated(self, state: State, place: int, seat: int) -> State:
        first = self._n + 3
        seats = [*state[first:]]
        seats[place - first] = seat
        return (*state[:first], *sorted(seats))

    def _act(
        self, state: State, place: int, name: str, act: Act, log: tuple[History, ...]
    ) -> Iterator[Step]:
        if act.entry is None:
            is_late = self._is_late(state)
            seat, appended = self.seats.asked(state[place], act, log, is_late=is_late)
            text = f"{name} does what it had decided on: to {act.kind} {act.name}"
            after = self._seated(state, place, seat)
            if appended is not None:
                thing = self.folds.place_of(appended)
                yield self._store(after, thing, appended, 0, f"{text}, which was not there")
            else:
                yield Step(after, text, False, "")
            return
        history = log[act.thing]
        flying = self._flying(state, act.thing)
        verdict = self.server.check_coordinator(act.entry, history, flying)
        after = self._seated(state, place, self.seats.without(state[place], act))
        said = f"{_verb(act.entry)} of {history.thing.id}"
        if verdict == "taken":
            yield self._store(after, act.thing, act.entry, act.offer, f"{name} appends {said}")
        elif verdict == "refused":
            yield Step(after, f"{name} is refused with {said}", False, "")

    def _flying(self, state: State, place: int) -> list[Append]:
        if not self.plan.is_replicated or place not in self._task_places:
            return []
        return self.actors.flying(self._cells[state[self._task_places.index(place)]])

    def _store(self, state: State, place: int, append: Append, offer: int, text: str) -> Step:
        """A coordinator's append is in the log."""
        if place not in self._task_places:
            return self._store_barrier(state, append, text)
        i = self._task_places.index(place)
        cell = self._stored(self._cells[state[i]], append)
        if offer:  # The delivery of a holder that is lost ends with its attempt.
            kept = tuple(each for each in cell.messages if each.offer != offer)
            cell = cell._replace(messages=kept)
        after = self._appended((*state[:i], self._number(cell), *state[i + 1 :]), i)
        return Step(
            after, f"{text} as its event {cell.history.length}", False, self._wrong_task(after, i)
        )

    def _store_barrier(self, state: State, append: Append, text: str) -> Step:
        n = self._n
        history = self.server.store(append, self._barriers[state[n]])
        wrong = history.reading.wrong
        if isinstance(history.event, BarrierReleased) and not wrong:
            members = [self._cells[each].history for each in state[: self._beginning.member_count]]
            wrong = wrong_release(history.event, members, self.plan.policy)
        after = (*state[:n], self._barrier_number(history), *state[n + 1 :])
        return Step(self._pruned(after, history.thing.place, history), text, False, wrong)

    def _batch(
        self, state: State, place: int, name: str, log: tuple[History, ...]
    ) -> Iterator[Step]:
        acts = {a.entry: a for a in self.seats.known[state[place]].acts if a.entry is not None}
        entries = sorted(acts, key=lambda each: (each.guard, each.event_id))
        group = grouped(entries)
        if len(group) < 2:
            return
        if not self.server.check_batch(group, [log[acts[each].thing] for each in group]):
            return
        after, text, wrong = state, f"{name} appends as one batch:", ""
        seat = state[place]
        for each in group:
            seat = self.seats.without(seat, acts[each])
        after = self._seated(after, place, seat)
        for each in group:
            act = acts[each]
            said = f"{text} {_verb(each)} of {log[act.thing].thing.id}"
            after, text, _, now_wrong = self._store(after, act.thing, each, act.offer, said)
            wrong = wrong or now_wrong
        yield Step(after, text, False, wrong)

    # What clients do to barriers.

    def _abandon_steps(self, state: State) -> Iterator[Step]:
        n, shift = self._n, 4 * BUDGETS.index("abandons")
        history = self._barriers[state[n]]
        if not (state[n + 2] >> shift) & 15:
            return
        event = BarrierAbandoned(id="end-it", occurred_at=NOW, why="cancelled", error="no more")
        append = entry(Subject("main", "barrier", BARRIER, "abandoned"), history.seq, event)
        after = (*state[: n + 2], state[n + 2] - (1 << shift), *state[n + 3 :])
        yield self._store_barrier(after, append, "a client ends the barrier")

    def _deadline_steps(self, state: State) -> Iterator[Step]:
        n = self._n
        if self.plan.deadlines and not self._is_late(state):
            left = state[n + 2] - (1 << _DEADLINE_SHIFT)
            after = (*state[: n + 2], left, *state[n + 3 :])
            yield Step(after, "the barrier's deadline passes", False, "")

    def _is_late(self, state: State) -> bool:
        """Whether the deadline has passed."""
        return self.plan.deadlines > 0 and not (state[self._n + 2] >> _DEADLINE_SHIFT) & 15


def _verb(append: Append) -> str:
    return append.subject.rpartition(".")[2]
