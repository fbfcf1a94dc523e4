"""An event loop without a clock of its own: when nobody can go on, it is later.

Every piece of work belongs to a process: that of the code which asked for it. A process that is paused does
nothing until it goes on, one that is dead nothing at all, not even what stands in its `finally`: as after a
SIGSTOP and a SIGKILL.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

CANCELLED_MAX = 200


class Idle(Exception):
    """Nobody will ever do anything again, and someone still waits."""


class SimProcess:
    """Code that is paused, and that dies, as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_paused = False
        self.on_death: list[Callable[[], None]] = []
        self.parked: deque[asyncio.Handle] = deque()
        self.corpse: list[asyncio.Task[Any]] = []
        self.context = copy_context()
        self.context.run(CURRENT.set, self)

    def die(self, loop: SimLoop) -> None:
        """As by SIGKILL: from now on nothing of it runs."""
        if self.is_dead:
            return
        self.is_dead = True
        self.parked.clear()
        # Kept, for what Python collects runs its `finally`.
        self.corpse = [task for task in asyncio.all_tasks(loop) if process_of(task) is self]
        for told in self.on_death:
            told()

    def pause(self) -> None:
        """As by SIGSTOP."""
        self.is_paused = True

    def resume(self, loop: SimLoop) -> None:
        """As by SIGCONT: everything that has come due meanwhile happens at once."""
        self.is_paused = False
        while self.parked:
            loop.add_ready(self.parked.popleft())


CURRENT: ContextVar[SimProcess | None] = ContextVar("CURRENT", default=None)


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address: a run is the same every time."""

    _made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        SimTask._made += 1
        self._number = SimTask._made
        self.process = CURRENT.get()
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _end(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Again and again: each `await` in a `finally` takes one."""
    for _ in range(20):
        try:
            coroutine.close()
        except RuntimeError as error:
            if "ignored GeneratorExit" in str(error):
                continue
            return
        except BaseException:  # noqa: BLE001 - nobody wants to know
            return
        else:
            return


def process_of(task: asyncio.Task[Any]) -> SimProcess | None:
    """Whose it is."""
    return task.process if isinstance(task, SimTask) else None


class _NoSelector:
    """Nothing ever comes from outside."""

    def close(self) -> None: ...

    def register(self, *_: Any) -> None: ...

    def unregister(self, *_: Any) -> None: ...

    def modify(self, *_: Any) -> None: ...

    def get_map(self) -> dict[Any, Any]:
        return {}

    def get_key(self, _: Any) -> None:
        raise KeyError

    def select(self, _timeout: float | None = None) -> list[Any]:
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """See the module."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__(_NoSelector())
        self.at = 0.0
        self.steps = 0
        """How many pieces of work have been done."""
        self.errors: list[dict[str, Any]] = []
        """What would have been logged as an error that nobody caught."""
        self.set_task_factory(lambda loop, coro, **kw: SimTask(coro, loop=loop, **kw))
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def _make_self_pipe(self) -> None:
        """Needs none: there are no threads."""

    def _close_self_pipe(self) -> None: ...

    def time(self) -> float:
        """Virtual seconds since its start."""
        return self.at

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """There are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """At once, and its answer a moment later."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)

        self.call_later(0.001, work)
        return future

    def spawn(self, process: SimProcess, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs a coroutine as that process's."""
        return process.context.run(self.create_task, coroutine)

    def bury(self) -> None:
        """The world ends in the midst of everything: nothing is heard of what that leads to."""
        self._ready.clear()
        self._scheduled.clear()
        with warnings.catch_warnings():
            self._end_all()

    def _end_all(self) -> None:
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            warnings.simplefilter("ignore", RuntimeWarning)  # what never began was never awaited
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False
                _end(task.get_coro())
            self._ready.clear()
            self.close()
            gc.collect()
        finally:
            sys.unraisablehook = hook

    def add_ready(self, handle: asyncio.Handle) -> None:
        """Has it run in this turn or the next."""
        self._ready.append(handle)

    def _run_once(self) -> None:
        if self._timer_cancelled_count > CANCELLED_MAX:
            self._forget_cancelled()
        while self._scheduled and self._scheduled[0]._cancelled:
            self._drop_timer()
        if not self._ready:
            if not self._scheduled:
                raise Idle
            self.at = max(self.at, self._scheduled[0].when())
        while self._scheduled and self._scheduled[0].when() <= self.at:
            handle = self._drop_timer()
            if not handle._cancelled:
                self._ready.append(handle)
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(CURRENT)
            if process is not None:
                if process.is_dead:
                    continue
                if process.is_paused:
                    process.parked.append(handle)
                    continue
            self.steps += 1
            handle._run()

    def _forget_cancelled(self) -> None:
        kept = [timer for timer in self._scheduled if not timer._cancelled]
        for timer in self._scheduled:
            timer._scheduled = not timer._cancelled
        heapq.heapify(kept)
        self._scheduled = kept
        self._timer_cancelled_count = 0

    def _drop_timer(self) -> asyncio.TimerHandle:
        timer = heapq.heappop(self._scheduled)
        timer._scheduled = False
        if timer._cancelled:
            self._timer_cancelled_count -= 1
        return timer

    _timer_cancelled_count: int
