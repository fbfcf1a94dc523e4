"""`Judge`: takes a log message by message, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from simulation.invariants.agents import Agents
from simulation.invariants.barriers import Barriers
from simulation.invariants.budgets import Budgets
from simulation.invariants.credentials import Credentials
from simulation.invariants.limits import Limits
from simulation.invariants.messages import Entry, Message, Tolerance, Violation, read
from simulation.invariants.names import key_token
from simulation.invariants.plans import Plans
from simulation.invariants.queues import Queues
from simulation.invariants.quiet import Quiet
from simulation.invariants.schedules import Schedules
from simulation.invariants.tasks import Tasks

_NO_TOLERANCE: Final = Tolerance()


class Judge:
    """Judges one run.

    Args:
        tolerance: what is forgiven.
        objects: what stood in the object store at any time, by digest; plans that are not here are not judged.
    """

    def __init__(
        self, *, tolerance: Tolerance = _NO_TOLERANCE, objects: Mapping[str, bytes] | None = None
    ) -> None:
        self.violations: list[Violation] = []
        self._seq = 0
        self._at_us = 0
        self._fleet: str | None = None
        self._event_ids: set[str] = set()
        report = self._report
        self._tasks = Tasks(report, tolerance)
        stories = self._tasks.stories
        self._limits = Limits(report, tolerance)
        self._budgets = Budgets(report, tolerance, stories)
        self._credentials = Credentials(report, tolerance)
        plans = Plans(report, objects if objects is not None else {})
        self._barriers = Barriers(report, tolerance, stories, plans)
        self._schedules = Schedules(report, tolerance)
        claims = self._tasks.attempts.claims
        self._agents = Agents(report, stories, claims, tolerance.bereft)
        self._queues = Queues(report, tolerance)
        self._takers: dict[str, Callable[[Entry], None]] = {
            "task": self._take_task,
            "limit": self._limits.take,
            "budget": self._budgets.take,
            "credential": self._credentials.take,
            "barrier": self._barriers.take,
            "schedule": self._schedules.take,
            "agent": self._agents.take,
            "worker": self._agents.take_worker,
            "queue": self._queues.take,
        }

    def take(self, message: Message) -> None:
        """The next message of the log."""
        if message.seq != self._seq + 1:
            text = f"message {message.seq} comes after {self._seq}"
            self._report("log.sequence", message.seq, text)
        self._seq = message.seq
        entry = read(message)
        if isinstance(entry, str):
            self._report("log.readable", message.seq, f"at {message.seq} {entry}")
            return
        self._at_us = entry.at_us
        self._check_log(entry)
        if self._limits.is_pending and entry.kind not in ("task", "limit"):
            self._limits.flush(entry.seq)
        self._takers[entry.kind](entry)

    def end(
        self,
        *,
        is_quiet: bool,
        allowed_open: Collection[str] | Callable[[str], bool] = (),
        at_ns: int | None = None,
    ) -> None:
        """The log has ended.

        Args:
            is_quiet: faults stopped long ago and everything had time to settle: then that is judged as well.
            allowed_open: the tasks that still have a reason to wait, or whether one has; what waits for these
                alone need not be named.
            at_ns: the time of the end, in nanoseconds since 1970; None: that of the last message.
        """
        if self._limits.is_pending:
            self._limits.flush(self._seq)
        if not is_quiet:
            return
        is_allowed = allowed_open if callable(allowed_open) else allowed_open.__contains__
        at_us = self._at_us if at_ns is None else at_ns // 1000
        stories = self._tasks.stories
        Quiet(self._report, self._seq, at_us, stories, self._barriers, is_allowed).judge()
        for key, story in self._limits.leaked(stories):
            if not is_allowed(story.id):
                text = f"task {story.id}, {story.status}, still holds a place under limit {key}"
                self._report("limit.leaked", self._seq, text)
        self._budgets.end(self._seq, stories)
        self._credentials.end(self._seq, at_us, stories)
        self._schedules.end(self._seq, at_us)

    def _take_task(self, entry: Entry) -> None:
        step = self._tasks.take(entry)
        if step is None:
            return
        self._limits.take_step(step)
        self._budgets.take_step(step)
        self._barriers.take_step(step)
        if entry.verb == "queued":
            self._credentials.take_step(step)
        elif entry.verb == "claimed":
            self._agents.take_step(step)
            self._queues.take_step(step)
        if step.was == "absent":
            self._schedules.take_step(step)

    def _check_log(self, entry: Entry) -> None:
        event_id = entry.event["id"]
        if event_id in self._event_ids:
            self._report("log.event_id", entry.seq, f"event {event_id} stands again at {entry.seq}")
        self._event_ids.add(event_id)
        if self._fleet is None:
            self._fleet = entry.fleet
        if entry.fleet != self._fleet:
            text = f"{entry.seq} belongs to fleet {entry.fleet}, the log to {self._fleet}"
            self._report("log.readable", entry.seq, text)
        if entry.kind in ("limit", "budget") and entry.id != key_token(entry.event.get("key", "")):
            text = f"{entry.seq} stands under {entry.id}, and its key is {entry.event.get('key')}"
            self._report("log.readable", entry.seq, text)

    def _report(self, rule: str, seq: int, text: str) -> None:
        self.violations.append(Violation(rule, seq, text))
