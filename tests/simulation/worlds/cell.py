"""All there is of one task but what coordinators hold, and what steps make of it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from fleetlog.bus.log import Append
from simulation.worlds.histories import History
from simulation.worlds.server import Server
from simulation.worlds.writers import Writing

NONE = -1
"""No agent."""

Ending = Literal["complete", "fail", "return"]


class Message(NamedTuple):
    """An offer, as the server keeps it until it is acknowledged."""

    offer: int
    holder: int = NONE
    """The agent that it was given to."""
    is_again: bool = False
    """It has been given to someone before."""


class Attempt(NamedTuple):
    """What an agent holds of a task: it claims it, it runs it, or it records its end."""

    agent: int
    offer: int
    act: str
    """`claim`, `claim over`, `run`, or an `Ending` or `cancel`."""
    fence: int = 0
    """Its own; of `claim over` the dead holder's."""
    writing: Writing | None = None


class Client(NamedTuple):
    """Someone outside who wants something of the task."""

    name: str
    act: Literal["submit", "cancel", "make"]
    writing: Writing


class Cell(NamedTuple):
    """All there is of one task but what coordinators hold."""

    history: History
    messages: tuple[Message, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    clients: tuple[Client, ...] = ()
    ghosts: tuple[Writing, ...] = ()
    """Requests of agents that are no more, still on their way."""


class Move(NamedTuple):
    """One step."""

    cell: Cell
    text: str
    agent: int = NONE
    """Who has to be up."""
    is_delivery: bool = False
    """The agent has to be one that takes new tasks."""
    dead: int = NONE
    """Who has to be silent."""
    robbed: int = NONE
    """Who loses its lease to a claim; it must not be one that has lived all the while."""
    budget: str = ""
    is_fault: bool = False
    """Nobody wants it."""
    wrong: str = ""

    def named(self, thing_id: str) -> Move:
        return self._replace(text=self.text.replace("~", thing_id))


def stored_in(cell: Cell, server: Server, written: Append) -> Cell:
    """The cell with one more event; an offer makes a message."""
    history = server.store(written, cell.history)
    messages = cell.messages
    if written.subject.endswith(".queued"):
        messages = tuple(sorted((*messages, Message(history.seq))))
    return settled_in(cell._replace(history=history, messages=messages))


def settled_in(cell: Cell) -> Cell:
    """Without what can have no effect any more: requests of the dead that will be refused for ever."""
    if not cell.ghosts:
        return cell
    live = {g for g in cell.ghosts if g.stage == "flying" or g.entry.expected == cell.history.seq}
    return cell._replace(ghosts=tuple(sorted(live, key=lambda each: each.entry.data)))


def with_message(cell: Cell, message: Message) -> Cell:
    others = [each for each in cell.messages if each.offer != message.offer]
    return cell._replace(messages=tuple(sorted((*others, message))))


def acknowledged(cell: Cell, offer: int) -> Cell:
    return cell._replace(messages=tuple(each for each in cell.messages if each.offer != offer))


def given_back(cell: Cell, offer: int, agent: int) -> Cell:
    if all((each.offer, each.holder) != (offer, agent) for each in cell.messages):
        return cell
    return with_message(cell, Message(offer, NONE, is_again=True))


def with_attempt(cell: Cell, attempt: Attempt) -> Cell:
    return cell._replace(attempts=tuple(sorted((*cell.attempts, attempt), key=_order)))


def with_clients(cell: Cell, clients: tuple[Client, ...]) -> Cell:
    return cell._replace(clients=tuple(sorted(clients, key=lambda c: (c.act, c.name))))


def _order(attempt: Attempt) -> tuple[int, int, str]:
    return attempt.agent, attempt.offer, attempt.act


def without(items: tuple[Any, ...], gone: object) -> tuple[Any, ...]:
    place = items.index(gone)
    return (*items[:place], *items[place + 1 :])
