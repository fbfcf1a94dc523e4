"""How the server takes an append: by the guard's text and the expected sequence, and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fleetlog.bus.log import Append
from simulation.worlds.histories import History

Verdict = Literal["taken", "refused", "busy"]


class Server:
    """The server's manners.

    Args:
        is_replicated: an append that was let in is on its way for a while before it is stored. Meanwhile it
            holds up others by the text of its guard alone: that is all that the leader compares.
    """

    def __init__(self, *, is_replicated: bool = False) -> None:
        self.is_replicated = is_replicated

    def check(self, entry: Append, history: History, flying: Sequence[Append] = ()) -> Verdict:
        """What becomes of an append; busy: ask again, another write to the guard is on its way."""
        if any(each.guard == entry.guard for each in flying):
            return "busy"
        return "taken" if entry.expected == history.seq else "refused"

    def check_coordinator(
        self, entry: Append, history: History, flying: Sequence[Append] = ()
    ) -> Verdict:
        """The same for a coordinator's."""
        return self.check(entry, history, flying)

    def is_doomed(self, entry: Append, history: History) -> bool:
        """Whether it would be refused now and for ever: what a guard has passed never comes again."""
        return entry.expected != history.seq

    def store(self, entry: Append, history: History) -> History:
        """What was let in is stored, whatever has happened meanwhile."""
        return history.then(entry.subject, entry.data)

    def check_batch(self, entries: Sequence[Append], histories: Sequence[History]) -> bool:
        """Whether a batch is stored: each append is checked against the state before all of them."""
        return all(
            self.check(entry, history) == "taken"
            for entry, history in zip(entries, histories, strict=True)
        )
