"""What agents and clients do to one task: every single step that each state of it allows.

An agent has a slot for each task, so that its attempts of different tasks do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from fleetlog.bus.core import (
    Cancel,
    Claim,
    Complete,
    Fail,
    Refusal,
    RequestCancel,
    Return,
    Submit,
    Task,
)
from fleetlog.bus.core import decide as _decide
from fleetlog.bus.core.decide import AnyCommand
from fleetlog.bus.log import Append, entry
from fleetlog.bus.rules import subject_of
from fleetlog.schemas.envelope import Recorded
from fleetlog.schemas.events import TaskClaimed, TaskEvent, verb_of
from fleetlog.schemas.specs import TaskSpec, payload_digest
from simulation.worlds import histories, writers
from simulation.worlds.cell import (
    NONE,
    Attempt,
    Cell,
    Client,
    Ending,
    Message,
    Move,
    acknowledged,
    given_back,
    settled_in,
    stored_in,
    with_attempt,
    with_clients,
    with_message,
    without,
)
from simulation.worlds.histories import STRIDE, History
from simulation.worlds.server import Server
from simulation.worlds.writers import Writing
from tests.given import NULL, T0, at

decide = _decide
"""Where a planted bug is put in."""
append_of = entry
"""As above."""

NOW = at(10)
"""What everybody holds for the log's time: all that was to wait has waited."""


def holder_is_dead(holder: int, agent: int) -> int:
    """Of whom there must be evidence that it is silent, before its claim is claimed over; `NONE`: of nobody."""
    return NONE if holder == agent else holder


def is_adopted(cell: Cell, agent: int, offer: int) -> bool:
    """Whether an offer belongs to an attempt that the agent has already."""
    return any(each.agent == agent and each.offer == offer for each in cell.attempts)


class Actors:
    """The steps of agents and clients.

    Args:
        server: takes their appends.
        names: the agents'.
        endings: how attempts may end.
    """

    def __init__(self, server: Server, names: tuple[str, ...], endings: tuple[Ending, ...]) -> None:
        self.server = server
        self.names = names
        self.endings = endings

    def moves(self, cell: Cell) -> list[Move]:
        """Every step that the cell allows."""
        found = [
            *self._deliveries(cell),
            *self._of_attempts(cell),
            *self._of_clients(cell),
            *self._of_ghosts(cell),
            *self._wishes(cell),
        ]
        return [move.named(cell.history.thing.id) for move in found]

    def without(self, cell: Cell, agent: int) -> Cell:
        """After the agent's crash: its beliefs are gone, what it had sent is still on its way."""
        gone = [each for each in cell.attempts if each.agent == agent]
        sent = [each.writing for each in gone if each.writing and each.writing.stage != "stored"]
        messages = [
            Message(m.offer, NONE, is_again=True) if m.holder == agent else m for m in cell.messages
        ]
        return settled_in(
            cell._replace(
                attempts=tuple(each for each in cell.attempts if each.agent != agent),
                messages=tuple(messages),
                ghosts=(*cell.ghosts, *sent),
            )
        )

    def flying(self, cell: Cell) -> list[Append]:
        """What a replicated server has let in and not stored."""
        if not self.server.is_replicated:
            return []
        owners = [*cell.attempts, *cell.clients]
        writings = [*(each.writing for each in owners if each.writing), *cell.ghosts]
        return [each.entry for each in writings if each.stage == "flying"]

    # Offers.

    def _deliveries(self, cell: Cell) -> Iterator[Move]:
        for message in cell.messages:
            if message.holder != NONE:
                again = message._replace(holder=NONE, is_again=True)
                text = f"the server takes {self.names[message.holder]}'s offer of ~ for lost"
                moved = Move(with_message(cell, again), text)
                yield moved._replace(budget="duplicates")
                yield moved._replace(dead=message.holder)
                continue
            for agent in range(len(self.names)):
                yield from self._delivery(cell, message, agent)

    def _delivery(self, cell: Cell, message: Message, agent: int) -> Iterator[Move]:
        name, offer = self.names[agent], message.offer
        taken = with_message(cell, message._replace(holder=agent))
        if is_adopted(cell, agent, offer):
            yield Move(taken, f"{name} gets its offer of ~ again", agent, is_delivery=True)
            return
        if message.is_again:
            task, how = cell.history.task, "again, reads ~ from the log"
        else:
            task, how = _seen_in_offer(cell.history, offer), "for the first time"
        command = self._claim(agent, offer, f"{name}:claim:{offer}.{task.version}")
        text = f"{name} gets the offer of ~ {how}"
        for move in self._claims(taken, command, task):
            yield move._replace(text=f"{text}{move.text}", is_delivery=True)

    def _claim(self, agent: int, offer: int, command_id: str) -> Claim:
        name = self.names[agent]
        return Claim(id=command_id, offer=offer, agent_id=name, worker_id="w", host=f"h{name}")

    def _claims(self, cell: Cell, command: Claim, task: Task) -> Iterator[Move]:
        """As `Claims.claim` goes on from a fold of the task; the cell has no attempt of it any more."""
        offer, agent = command.offer, self.names.index(command.agent_id)
        event = decide(command, task, NOW)
        if not isinstance(event, Refusal):
            act = "claim" if command.over is None else "claim over"
            writing = Writing(_append(task, event))
            attempt = Attempt(agent, offer, act, command.over or 0, writing)
            is_over = isinstance(event, TaskClaimed) and event.over is not None
            robbed = self._holder(task) if is_over else NONE
            has_own = any((each.agent, each.offer) == (agent, offer) for each in cell.attempts)
            wrong = "it claims over its own attempt" if has_own and robbed == agent else ""
            yield Move(
                with_attempt(cell, attempt),
                f" and asks for {verb_of(event)} after {task.version // STRIDE}",
                agent,
                robbed=NONE if robbed == agent else robbed,
                wrong=wrong,
            )
        elif event.code != "offer_held":
            yield Move(acknowledged(cell, offer), f", finds it stale ({event.code})", agent)
        else:
            yield from self._held(cell, command, event.task)

    def _held(self, cell: Cell, command: Claim, task: Task) -> Iterator[Move]:
        agent = self.names.index(command.agent_id)
        nak = given_back(cell, command.offer, agent)
        yield Move(nak, ", finds it held and gives it back", agent)
        if command.over is not None or task.lease is None:
            return
        over = msgspec.structs.replace(command, over=task.lease.fence)
        dead = holder_is_dead(self._holder(task), agent)
        for move in self._claims(cell, over, task):
            text = f", finds that its holder is silent{move.text}"
            yield move._replace(text=text, dead=dead)

    def _holder(self, task: Task) -> int:
        return self.names.index(task.lease.agent_id) if task.lease is not None else NONE

    # Attempts.

    def _of_attempts(self, cell: Cell) -> Iterator[Move]:
        for attempt in cell.attempts:
            rest = cell._replace(attempts=without(cell.attempts, attempt))
            if attempt.writing is None:
                yield from self._endings(rest, attempt)
                continue
            name = self.names[attempt.agent]
            for told, move in self._sendings(cell, attempt.writing, f"{name}'s {attempt.act}"):
                if isinstance(told, Writing):
                    later = rest._replace(history=move.cell.history)
                    yield move._replace(cell=with_attempt(later, attempt._replace(writing=told)))
                    continue
                for after in self._conclusions(rest, attempt, attempt.writing, told):
                    text = f"{name} {move.text}{after.text}"
                    wrong = move.wrong or after.wrong
                    yield after._replace(text=text, agent=attempt.agent, wrong=wrong)

    def _sendings(
        self, cell: Cell, writing: Writing, what: str
    ) -> Iterator[tuple[Writing | writers.Evidence, Move]]:
        """What may become of an append: where it is then, or what its writer is told."""
        written, history = writing.entry, cell.history
        if writing.stage == "stored":
            wrong = writers.misled(history, written, "ours")
            yield "ours", Move(cell, "learns that it was stored", wrong=wrong)
            lost = Move(cell, f"the answer to {what} of ~ is lost", budget="losses")
            yield Writing(written), lost
            return
        if writing.stage == "flying":
            yield self._stored(cell, writing, what)
            return
        verdict = self.server.check(written, history, self.flying(cell))
        if verdict == "taken" and self.server.is_replicated:
            text = f"{what} of ~ is let in by the leader (guard {written.guard})"
            yield Writing(written, "flying"), Move(cell, text)
        elif verdict == "taken":
            yield self._stored(cell, writing, what)
        elif verdict == "refused" and (told := writers.evidence(history, written)) != "none":
            seen = "finds its own event in the log" if told == "ours" else "meets a conflict"
            yield told, Move(cell, seen, wrong=writers.misled(history, written, told))

    def _stored(self, cell: Cell, writing: Writing, what: str) -> tuple[Writing, Move]:
        after = stored_in(cell, self.server, writing.entry)
        text = f"{what} of ~ is stored as event {after.history.length}"
        return Writing(writing.entry, "stored"), Move(
            after, text, wrong=after.history.reading.wrong
        )

    def _conclusions(
        self, rest: Cell, attempt: Attempt, writing: Writing, told: writers.Evidence
    ) -> Iterator[Move]:
        if told == "ours":
            seq = writers.place_of(rest.history, writing.entry)
            event = rest.history.at(seq).event if seq else None
            if isinstance(event, TaskClaimed):
                running = Attempt(attempt.agent, attempt.offer, "run", seq)
                yield Move(with_attempt(rest, running), ", and runs ~")
            else:
                yield Move(acknowledged(rest, attempt.offer), ", and acknowledges the offer of ~")
        elif attempt.act.startswith("claim"):
            command = self._claim(attempt.agent, attempt.offer, writing.entry.event_id)
            command = msgspec.structs.replace(command, over=attempt.fence or None)
            yield from self._claims(rest, command, rest.history.task)
        else:
            yield self._end(rest, attempt, writing.entry.event_id, rest.history.task)

    def _endings(self, rest: Cell, attempt: Attempt) -> Iterator[Move]:
        """A running attempt comes to an end."""
        task, name = rest.history.at(attempt.fence).task, self.names[attempt.agent]
        acts: list[str] = [*self.endings]
        if rest.history.reading.is_cancel_requested:
            acts.append("cancel")
        for act in acts:
            move = self._end(rest, attempt._replace(act=act), f"{name}:{act}:{attempt.fence}", task)
            budget = "returns" if act == "return" else ""
            text = f"{name} ends its attempt of ~ ({act}){move.text}"
            yield move._replace(text=text, agent=attempt.agent, budget=budget)

    def _end(self, rest: Cell, attempt: Attempt, command_id: str, task: Task) -> Move:
        event = decide(_ending(attempt.act, command_id, attempt.fence), task, NOW)
        if isinstance(event, Refusal):
            # The offer is not acknowledged: its time passes, and it comes again to someone.
            unanswered = given_back(rest, attempt.offer, attempt.agent)
            return Move(unanswered, ": its lease is lost, it gives up")
        writing = Writing(_append(task, event))
        text = f", sends {verb_of(event)} after {task.version // STRIDE}"
        return Move(with_attempt(rest, attempt._replace(writing=writing)), text)

    # Clients, and what the dead have sent.

    def _of_clients(self, cell: Cell) -> Iterator[Move]:
        for client in cell.clients:
            rest = cell._replace(clients=without(cell.clients, client))
            what = f"{client.name}'s {client.act}"
            for told, move in self._sendings(cell, client.writing, what):
                if isinstance(told, Writing):
                    kept = (*rest.clients, client._replace(writing=told))
                    yield move._replace(cell=with_clients(move.cell, kept))
                elif told == "ours" or client.act == "make":
                    yield move._replace(cell=rest, text=f"{client.name} {move.text} (~)")
                else:
                    again = self._again(client, cell.history.task)
                    kept = rest.clients if again is None else (*rest.clients, again)
                    yield move._replace(
                        cell=with_clients(rest, kept), text=f"{client.name} {move.text} (~)"
                    )

    def _again(self, client: Client, task: Task) -> Client | None:
        """What a client does after a conflict; None: it has what it wanted."""
        command_id = client.writing.entry.event_id
        if client.act == "cancel":
            return wish(client.name, "cancel", RequestCancel(id=command_id), task)
        spec = task.spec or TaskSpec(handler="h")
        command = Submit(id=command_id, spec=spec, digest=payload_digest(spec))
        return wish(client.name, "submit", command, task)

    def _wishes(self, cell: Cell) -> Iterator[Move]:
        if any(each.act == "cancel" for each in cell.clients):
            return
        command = RequestCancel(id=f"cancel-{cell.history.length}")
        if (client := wish("a client", "cancel", command, cell.history.task)) is not None:
            kept = with_clients(cell, (*cell.clients, client))
            yield Move(kept, "a client asks for the end of ~", budget="cancels")

    def _of_ghosts(self, cell: Cell) -> Iterator[Move]:
        for ghost in cell.ghosts:
            if ghost.stage == "sent":
                gone = cell._replace(ghosts=without(cell.ghosts, ghost))
                yield Move(gone, "what one that crashed had sent of ~ is lost", is_fault=True)
            for told, move in self._sendings(cell, ghost, "what one that crashed had sent"):
                if not isinstance(told, Writing):
                    continue
                left = tuple(each for each in move.cell.ghosts if each != ghost)
                kept = (*left, told) if told.stage == "flying" else left
                yield move._replace(cell=settled_in(move.cell._replace(ghosts=kept)))


def wish(
    name: str, act: Literal["submit", "cancel", "make"], command: AnyCommand, task: Task
) -> Client | None:
    """A client that has decided on what it knows; None if there is nothing to append."""
    event = decide(command, task, NOW)
    return None if isinstance(event, Refusal) else Client(name, act, Writing(_append(task, event)))


def _append(task: Task, event: TaskEvent) -> Append:
    return append_of(subject_of("main", task, event), task.version, event)


def _ending(act: str, command_id: str, fence: int) -> AnyCommand:
    match act:
        case "complete":
            return Complete(id=command_id, fence=fence, result=NULL)
        case "fail":
            return Fail(id=command_id, fence=fence, error_class="error", error="no", jitter=0.0)
        case "return":
            return Return(id=command_id, fence=fence, error_class="drained", error="no")
        case _:
            return Cancel(id=command_id, fence=fence)


def _seen_in_offer(history: History, offer: int) -> Task:
    event = history.at(offer).event
    assert event is not None
    return histories.evolve(Task(id=history.thing.id), Recorded(offer, T0, None, event))
