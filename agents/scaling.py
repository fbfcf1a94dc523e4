"""How many workers a pool should have: decided from its load, with reasons. Pure: no clock, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class ScalingRule(msgspec.Struct, frozen=True, kw_only=True):
    """Within which bounds, and how eagerly."""

    workers_min: int
    """Never fewer."""
    workers_max: int
    """Never more."""
    concurrency: int = 1
    """Attempts at once in one worker."""
    idle_s: float = 60.0
    """A worker that had nothing to do for so long goes."""
    wait_s: float = 0.5
    """An offer that waited for longer is a reason to grow."""
    look_s: float = 1.0
    """The least time from one look at what waits to the next."""


class WorkerLoad(msgspec.Struct, frozen=True):
    """One worker at one moment."""

    worker_id: str
    """Which one."""
    held_count: int
    """Attempts it has now."""
    finished_count: int
    """Attempts it ever finished: what tells that it worked between two looks."""
    lent_count: int = 0
    """Attempts that are in it without a slot, as they wait for what they gather."""


class Waiting(msgspec.Struct, frozen=True):
    """Offers of one queue that nobody has taken."""

    queue: str
    """Which one."""
    count: int
    """How many."""
    oldest_s: float
    """How long the oldest of them has waited."""
    high_count: int = 0
    """How many of them are of priority high."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Another number of workers."""

    before: int
    """How many there were to be."""
    after: int
    """How many there shall be."""
    why: str
    """A sentence for people."""
    queue: str | None = None
    """The queue of which most waits; None when nothing waits."""
    waiting_count: int = 0
    """Offers that waited, of all queues."""
    oldest_wait_s: float = 0.0
    """How long the oldest of them had."""
    leaving: tuple[str, ...] = ()
    """The idle workers that shall go."""


class Scaler:
    """Decides step by step, from what it is shown; remembers how long each worker has been idle.

    A pool grows at once, by as many workers as the offers that wait need, and shrinks by one idle worker at a
    time.
    """

    def __init__(self, rule: ScalingRule) -> None:
        self._rule = rule
        self._looked_at = -math.inf
        self._idle: dict[str, tuple[int, float]] = {}

    def wants_look(
        self, now_s: float, count: int, workers: Sequence[WorkerLoad], reserved_count: int = 0
    ) -> bool:
        """Whether what waits matters now; then `decide` is given it, and for a while nothing is asked again.

        Args:
            now_s: seconds on a monotonic clock.
            count: how many workers the pool keeps, those that are just starting included.
            workers: those of them that take attempts.
            reserved_count: so many more attempts of high tasks alone must be able to start.
        """
        is_full = bool(workers) and self._free(workers) <= reserved_count
        if not is_full or count >= self._rule.workers_max:
            return False
        if now_s - self._looked_at < self._rule.look_s:
            return False
        self._looked_at = now_s
        return True

    def decide(
        self,
        now_s: float,
        count: int,
        workers: Sequence[WorkerLoad],
        waiting: Sequence[Waiting] = (),
        *,
        reserved_count: int = 0,
        is_strained: bool = False,
    ) -> Change | None:
        """What to change, if anything; the arguments are those of `wants_look`.

        Args:
            now_s: see there.
            count: see there.
            workers: see there.
            waiting: what was found to wait; nothing when nobody looked.
            reserved_count: see there.
            is_strained: the host has too little of something for more workers.
        """
        idle_since = self._note_idle(now_s, workers)
        found = [one for one in waiting if one.count > 0]
        if found and not is_strained:
            return self._grown(count, workers, found, reserved_count)
        if self._free(workers) - self._rule.concurrency < reserved_count:
            return None  # what has nothing to do stays for what may come
        return self._shrunk(now_s, count, idle_since)

    def _free(self, workers: Sequence[WorkerLoad]) -> int:
        """Attempts that could start now."""
        return sum(max(0, self._rule.concurrency - worker.held_count) for worker in workers)

    def _note_idle(self, now_s: float, workers: Sequence[WorkerLoad]) -> dict[str, float]:
        """Since when each idle worker has been seen idle, without having worked in between."""
        idle = {}
        for worker in workers:
            if worker.held_count == 0 and worker.lent_count == 0:
                finished, since = self._idle.get(worker.worker_id, (-1, now_s))
                is_same = finished == worker.finished_count
                idle[worker.worker_id] = (worker.finished_count, since if is_same else now_s)
        self._idle = idle
        return {worker_id: since for worker_id, (_, since) in idle.items()}

    def _grown(
        self,
        count: int,
        workers: Sequence[WorkerLoad],
        found: Sequence[Waiting],
        reserved_count: int,
    ) -> Change | None:
        rule = self._rule
        busy = [worker for worker in workers if worker.held_count >= rule.concurrency]
        oldest_s = max(one.oldest_s for one in found)
        free_count = self._free(workers)
        if free_count > reserved_count or oldest_s <= rule.wait_s:
            return None
        waiting_count = sum(one.count for one in found)
        high_count = sum(one.high_count for one in found)
        # High tasks use the reserve up; the others start beside what is left of it.
        kept_count = max(0, reserved_count - high_count) if waiting_count > high_count else 0
        wanted = math.ceil((waiting_count + kept_count - free_count) / rule.concurrency)
        # Those that are still starting take some of it.
        starting = count - len(workers)
        more = min(wanted - starting, rule.workers_max - count)
        if more <= 0:
            return None
        kept = f", {_slots(reserved_count)} kept for high" if free_count else ""
        waited = f"while {_tasks(waiting_count)} waited"
        return Change(
            before=count,
            after=count + more,
            why=(
                f"{_busy(len(busy), len(workers))} workers were busy{kept} {waited},"
                f" the oldest for {oldest_s:.1f} s"
            ),
            queue=max(found, key=lambda one: one.count).queue,
            waiting_count=waiting_count,
            oldest_wait_s=oldest_s,
        )

    def _shrunk(self, now_s: float, count: int, idle_since: dict[str, float]) -> Change | None:
        if count <= self._rule.workers_min or not idle_since:
            return None
        # Of those idle for equally long the newest, which come last.
        worker_id = min(reversed(idle_since), key=lambda each: idle_since[each])
        idle_s = now_s - idle_since[worker_id]
        if idle_s < self._rule.idle_s:
            return None
        return Change(
            before=count,
            after=count - 1,
            why=f"worker {worker_id} had nothing to do for {idle_s:.0f} s",
            leaving=(worker_id,),
        )


def _busy(count: int, of: int) -> str:
    return f"all {count}" if count == of else f"{count} of {of}"


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
