"""Many tasks watched at once, by one follow of the log instead of a wait for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from fleetlog.bus.errors import ObjectLost, TransportError
from fleetlog.bus.fleet import Fleet
from fleetlog.bus.outcomes import Outcome, outcome_of, with_result
from fleetlog.schemas.envelope import Stored, open_stored
from fleetlog.schemas.events import TerminalEvent
from fleetlog.schemas.subjects import guard, tasks

LOOKS_MAX: Final = 200
"""Requests at once for tasks that were there before."""
AGAIN_S: Final = 1.0
_STORED_MARK: Final = b'"result_ref"'
_BY_VERB: Final = {
    "held": "held",
    "queued": "queued",
    "claimed": "claimed",
    "retried": "waiting",
    "returned": "waiting",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""The state after each verb; `cancel_requested` changes none."""
_FINAL: Final = ("completed", "failed", "cancelled", "expired")


class TaskSet:
    """The states of a set of tasks that grows, and the outcomes of those that have settled.

    New tasks belong to it by their label, so that one that settles before its submitter hears of it is not
    missed; others by `add`.

    Args:
        fleet: whose tasks.
        label: name and value, carried by no other tasks.
        on_outcome: gets each outcome as it comes.
    """

    def __init__(
        self, fleet: Fleet, label: tuple[str, str], on_outcome: Callable[[Outcome], None]
    ) -> None:
        self._fleet = fleet
        # As the encoder writes it into `held` and `queued`; looking for it costs less than reading those.
        self._mark = b":".join(msgspec.json.encode(part) for part in label)
        self._on_outcome = on_outcome
        self._states: dict[str, str] = {}
        self._changed = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """How many are in each state."""

    def __len__(self) -> int:
        return len(self._states)

    @property
    def open_count(self) -> int:
        """How many have not settled."""
        return len(self._states) - sum(self.counts[state] for state in _FINAL)

    def state_of(self, task_id: str) -> str:
        """The task's state as known here."""
        return self._states[task_id]

    def add(self, task_id: str) -> None:
        """Makes a task belong to the set; once or often."""
        if task_id not in self._states:
            self._move(task_id, "queued")

    async def look_at(self, task_ids: Iterable[str]) -> set[str]:
        """Reads where tasks stand that were there before, and tells outcomes again that were told already.

        Returns:
            The queues of those that have not settled.
        """
        queues: set[str] = set()
        places = asyncio.Semaphore(LOOKS_MAX)

        async def look(task_id: str) -> None:
            async with places:
                last = await self._fleet.log.last(guard(self._fleet.name, "task", task_id))
            if last is None:
                return
            fetched = await self._fetched(last)
            if (state := self._states[task_id]) in _FINAL:
                self._on_outcome(fetched or _outcome(task_id, state, last))
                return
            self._take(last, fetched)
            if self._states[task_id] not in _FINAL:
                queues.add(last.subject.split(".")[4])

        async with asyncio.TaskGroup() as group:
            for task_id in task_ids:
                group.create_task(look(task_id))
        return queues

    async def follow(self, *, after: int, queue: str = "*") -> None:
        """Keeps the states up from what a queue's tasks do behind event `after`; for ever."""
        subjects = tasks(self._fleet.name, queue)
        async for page in self._fleet.log.follow(after=after, subjects=subjects):
            for stored in page:
                # Known by looking, as almost no result is stored and this sees every event of the queue.
                outcome = await self._fetched(stored) if _STORED_MARK in stored.data else None
                self._take(stored, outcome)
            self._changed.set()

    async def wait_settled(self) -> None:
        """Waits until every task that belongs to it has settled."""
        while self.open_count:
            self._changed.clear()
            await self._changed.wait()

    def _take(self, stored: Stored, outcome: Outcome | None = None) -> None:
        *_, task_id, _queue, _priority, verb = stored.subject.split(".")
        before = self._states.get(task_id)
        is_new = before is None and verb in ("held", "queued") and self._mark in stored.data
        if before in _FINAL or not (before or is_new):
            return
        if (state := _BY_VERB.get(verb)) is None:
            return
        self._move(task_id, state)
        if state in _FINAL:
            self._changed.set()
            self._on_outcome(outcome or _outcome(task_id, state, stored))

    async def _fetched(self, stored: Stored) -> Outcome | None:
        """A completed task of the set, its result fetched if it is stored; None for any other event."""
        task_id, verb = stored.subject.split(".")[3::3]
        if verb != "completed" or task_id not in self._states:
            return None
        outcome = _outcome(task_id, verb, stored)
        while True:
            try:
                return await with_result(outcome, self._fleet.objects)
            except ObjectLost as error:
                return msgspec.structs.replace(outcome, error=str(error), error_class="result_lost")
            except TransportError:
                await self._fleet.system.clock.sleep(AGAIN_S)

    def _move(self, task_id: str, state: str) -> None:
        before = self._states.get(task_id)
        if before is not None:
            self.counts[before] -= 1
        self._states[task_id] = state
        self.counts[state] += 1


def _outcome(task_id: str, state: str, stored: Stored) -> Outcome:
    event = open_stored(stored).event
    if isinstance(event, TerminalEvent):
        return outcome_of(task_id, event)
    return Outcome(
        task_id=task_id,
        state=state,
        error=f"event {stored.seq} can't be read by this version: see `fleetlog task show {task_id}`",
        error_class="unreadable",
    )
