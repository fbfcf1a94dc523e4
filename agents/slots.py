"""The slots of an agent's workers, and those of them that are for high tasks alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fleetlog.schemas.subjects import Priority

if TYPE_CHECKING:
    from fleetlog.agents.pool import WorkerPool
    from fleetlog.agents.worker_process import Worker


class Reserve:
    """So many slots of an agent are for tasks of priority high alone. Pure: it only counts.

    A high task that runs uses up its part of the reserve. One that has lent its slot does not: what it waits
    for may be high too, and must not wait behind tasks that are not.

    Args:
        count: how many slots; 0 for none.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.used = 0
        """Slots in which a high task runs."""

    @property
    def left(self) -> int:
        """Slots that have to stay free of others."""
        return max(0, self._count - self.used)

    def free_for(self, priority: Priority, free_count: int) -> int:
        """How many of the free slots a task of this priority may have."""
        return free_count if priority == "high" else max(0, free_count - self.left)


class Slot:
    """The right to run one attempt in a worker."""

    _then: Callable[[], None] | None = None

    def __init__(self, pool: WorkerPool, worker: Worker, *, is_high: bool = False) -> None:
        self.worker = worker
        self._pool = pool
        self._is_high = is_high
        self._is_held = True
        self._is_lent = False
        self._count(1)

    @property
    def worker_id(self) -> str:
        """The worker's."""
        return self.worker.worker_id

    def on_release(self, then: Callable[[], None]) -> None:
        """Has `then` called when the slot is given back; it must not raise."""
        self._then = then

    def lend(self) -> None:
        """Lets another attempt run in its place while this one only waits; `retake` ends that."""
        self._pool.beside.pop(self, None)
        if self._is_held and not self._is_lent:
            self._note_lent(is_lent=True)
            self._pool.note_free()

    def retake(self) -> None:
        """Goes on, also when its place is taken: then one more than usual runs in the worker for a while.

        So it does where all that are free are reserved for others: it gets the next one that is not.
        """
        if not self._is_lent:
            return
        if self._is_high or self._pool.is_open_to_all:
            self._note_lent(is_lent=False)
        else:
            self._pool.beside[self] = None

    def release(self) -> None:
        """Gives the slot back; a second time does nothing."""
        self._pool.beside.pop(self, None)
        if self._is_held:
            if self._is_lent:
                self._note_lent(is_lent=False)
            self._is_held = False
            self._count(-1)
            self._pool.note_free()
            if self._then is not None:
                self._then()

    def _note_lent(self, *, is_lent: bool) -> None:
        self._is_lent = is_lent
        self.worker.slots_lent += 1 if is_lent else -1
        self._count(-1 if is_lent else 1)

    def _count(self, change: int) -> None:
        self.worker.slots_held += change
        if self._is_high:
            self._pool.reserve.used += change
