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

TIMERS_MANY = 500


class Idle(Exception):
    """Nobody will ever do anything again, and someone still waits."""


class SimProcess:
    """Code that is paused, and that dies, as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_paused = False
        self.on_death: list[Callable[[], None]] = []
        self.parked: deque[Work] = deque()
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


class Work:
    """A piece of work, now or later; as asyncio's `Handle` and `TimerHandle`, at a third of their price."""

    __slots__ = ("_when", "args", "context", "do", "is_cancelled")

    def __init__(
        self, when: float, do: Callable[..., object], args: tuple[Any, ...], context: Context
    ) -> None:
        self._when = when
        self.do = do
        self.args = args
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        """It is not done."""
        self.is_cancelled = True
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it is not done."""
        return self.is_cancelled

    def when(self) -> float:
        """Virtual seconds."""
        return self._when


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

    _ready: deque[Work]

    def __init__(self) -> None:
        super().__init__(_NoSelector())
        self._timers: list[tuple[float, int, Work]] = []
        self._timer_count = 0
        self._many = TIMERS_MANY
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

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Work:
        """In the next turn."""
        work = Work(self.at, callback, args, copy_context() if context is None else context)
        self._ready.append(work)
        return work

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Work:
        """Later; what is due at one instant happens in the order in which it was asked for."""
        work = Work(when, callback, args, copy_context() if context is None else context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, work))
        if len(self._timers) > self._many:
            self._forget_cancelled()
        return work

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Work:
        """See `call_at`."""
        return self.call_at(self.at + delay, callback, *args, context=context)

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
        self._timers.clear()
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

    def add_ready(self, work: Work) -> None:
        """Has it run in this turn or the next."""
        self._ready.append(work)

    def _run_once(self) -> None:
        self._pass_time()
        ready = self._ready
        for _ in range(len(ready)):
            work = ready.popleft()
            if work.is_cancelled:
                continue
            process = work.context.get(CURRENT)
            if process is not None:
                if process.is_dead:
                    continue
                if process.is_paused:
                    process.parked.append(work)
                    continue
            self.steps += 1
            try:
                work.context.run(work.do, *work.args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio does
                self.call_exception_handler({"message": f"{work.do} failed", "exception": error})

    def _pass_time(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].is_cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Idle
            self.at = max(self.at, timers[0][0])
        while timers and timers[0][0] <= self.at:
            work = heapq.heappop(timers)[2]
            if not work.is_cancelled:
                ready.append(work)

    def _forget_cancelled(self) -> None:
        self._timers = [timer for timer in self._timers if not timer[2].is_cancelled]
        heapq.heapify(self._timers)
        self._many = 2 * len(self._timers) + TIMERS_MANY
