"""Tasks that came when the fold did not know the barrier that they belong to, or not any more."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from fleetlog.bus.core.task import Task


class Latecomers:
    """By barrier; and of which barriers the log was asked how they had ended."""

    __slots__ = ("_asked", "_by_barrier")

    def __init__(self) -> None:
        self._by_barrier: dict[str, dict[str, None]] = {}
        self._asked: set[str] = set()

    def of(self, barrier_id: str) -> Iterable[str]:
        """The ids of the tasks that came for it, in their order."""
        return self._by_barrier.get(barrier_id, ())

    def add(self, barrier_id: str, task_id: str) -> None:
        """One has come."""
        self._by_barrier.setdefault(barrier_id, {})[task_id] = None

    def take(self, barrier_id: str) -> Iterable[str]:
        """Gives those that came for it; neither they nor the question are remembered."""
        self._asked.discard(barrier_id)
        return self._by_barrier.pop(barrier_id, ())

    def forget(self, task: Task) -> None:
        """It has ended."""
        spec = task.spec
        for barrier_id in (spec.barrier_id, spec.continues) if spec is not None else ():
            if (late := self._by_barrier.get(barrier_id or "")) is not None:
                late.pop(task.id, None)
                if not late:
                    del self._by_barrier[barrier_id or ""]

    def unasked(self, most: int) -> list[str]:
        """Up to `most` barriers of which the log has to be asked; each once."""
        found = list(islice((e for e in self._by_barrier if e not in self._asked), most))
        self._asked.update(found)
        return found

    def ask_again(self, barrier_id: str) -> None:
        """There was no answer, or there may be another one now."""
        self._asked.discard(barrier_id)
