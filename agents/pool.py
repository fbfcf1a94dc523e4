"""The worker processes of one agent: kept at the number that is wanted, replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec

from fleetlog.agents.environment import WORKER_VARIABLES, allowed
from fleetlog.agents.executors.profiles import load_profiles, profile_variables
from fleetlog.agents.frames import Broken, Ready
from fleetlog.agents.groups import signal_name
from fleetlog.agents.leftovers import owner
from fleetlog.agents.machine import LocalMachine, Machine
from fleetlog.agents.slots import Reserve, Slot
from fleetlog.agents.worker_process import Worker, WorkerTimes
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import System
from fleetlog.schemas.beats import WorkerBeat
from fleetlog.schemas.subjects import Priority

logger = logging.getLogger("fleetlog.agents")

_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_HEALTHY_S: Final = 10.0
_MARK: Final = "FLEETLOG_WORKER_MARK"


class PoolOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of pool."""

    size: int = 2
    """Worker processes, until `resize` says otherwise."""
    concurrency: int = 1
    """Attempts at once in each."""
    reserve_high: int = 0
    """So many of all slots are for tasks of priority high alone."""
    app: str | None = None
    """`module:attribute` of the `Agent`; None: only commands run."""
    environ: Mapping[str, str] = {}
    """The agent's own environment; workers and commands see only what an allow-list takes from it."""
    pass_env: tuple[str, ...] = ()
    """More names that workers and commands may see; `*` stands for any characters."""
    stop_s: float = 15.0
    """From SIGINT to SIGKILL of a program that shall stop; SIGTERM comes after two thirds of it."""
    credentials: tuple[str, ...] = ()
    """`NAME=session` or `NAME=key` for credentials of agent CLIs."""
    profiles: str | None = None
    """A file with more agent CLIs than the built-in ones."""
    times: WorkerTimes = WorkerTimes()
    """How patient the pool is with its workers."""


class PoolEvents(Protocol):
    """Who hears of the workers' births and deaths; called within the loop, must not block or raise."""

    def on_spawned(self, worker_id: str, pid: int) -> None:
        """A worker process was started."""
        ...

    def on_exited(
        self, worker_id: str, pid: int, exit_code: int | None, signal: int | None, reason: str
    ) -> None:
        """It ended, and nothing of it is left; one of `exit_code` and `signal` is None."""
        ...


class WorkerPool:
    """Keeps as many worker processes alive as it was told while it is open.

    Use it with `async with`, in the task that also leaves it: entering waits until every worker is ready,
    leaving ends them all and leaves no process behind.
    """

    def __init__(
        self,
        options: PoolOptions,
        *,
        system: System,
        events: PoolEvents,
        machine: Machine | None = None,
    ) -> None:
        self._options = options
        self._system = system
        self._machine = machine or LocalMachine(system)
        self._events = events
        self._tasks = asyncio.TaskGroup()
        self._workers: dict[str, Worker] = {}
        self._backing_off: dict[str, WorkerBeat] = {}
        self._spawned_count = 0
        self._keeper_count = 0
        self._wanted_count = options.size
        self._leaving: set[str] = set()
        self._closing = asyncio.Event()
        self._free = asyncio.Event()
        self.reserve = Reserve(options.reserve_high)
        """The slots that are for high tasks alone."""
        self.beside: dict[Slot, None] = {}
        """Of attempts that go on without one, the first to get one back at the front."""
        self.on_free: Callable[[], None] = lambda: None
        """Called whenever more may be free than before; must not raise."""
        self._handlers: dict[str, bytes] = {}
        self._cli_variables = profile_variables(load_profiles(options.profiles))

    @property
    def handlers(self) -> dict[str, bytes]:
        """By name, the JSON Schema of each handler's arguments, as the newest worker has them."""
        return dict(self._handlers)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that are there, the oldest first."""
        return tuple(self._workers.values())

    @property
    def wanted_count(self) -> int:
        """How many workers it keeps, those that are just starting included."""
        return self._wanted_count

    @property
    def free_count(self) -> int:
        """Attempts that could start now."""
        room = self._options.concurrency
        return sum(
            max(0, room - worker.slots_held) for worker in self._workers.values() if worker.is_ready
        )

    def free_for(self, priority: Priority) -> int:
        """Attempts of tasks of this priority that could start now."""
        return self.reserve.free_for(priority, self.free_count)

    @property
    def is_open_to_all(self) -> bool:
        """Not all slots that are free are reserved."""
        return not self.reserve.left or self.free_for("normal") > 0

    def beats(self) -> tuple[WorkerBeat, ...]:
        """The workers' part of the agent's beat."""
        living = (worker.beat() for worker in self._workers.values())
        return (*living, *self._backing_off.values())

    def try_acquire(self, priority: Priority = "normal") -> Slot | None:
        """A slot of the ready worker with the fewest held ones; None when none is free. Release it."""
        if priority != "high" and not self.is_open_to_all:
            return None
        least, held = None, self._options.concurrency
        for worker in self._workers.values():
            if worker.slots_held < held and worker.is_ready:
                least, held = worker, worker.slots_held
        return None if least is None else Slot(self, least, is_high=priority == "high")

    async def acquire(self) -> Slot:
        """Like `try_acquire`, but waits; for ever once the pool closes."""
        while (slot := self.try_acquire()) is None:
            self._free.clear()
            await self._free.wait()
        return slot

    def note_free(self) -> None:
        """Wakes those who wait for a slot."""
        while self.beside and self.is_open_to_all:
            slot = next(iter(self.beside))
            del self.beside[slot]
            slot.retake()
        self._free.set()
        self.on_free()

    async def __aenter__(self) -> Self:
        """Starts the workers.

        Raises:
            ConfigError: the app cannot be loaded or a worker does not come up; nothing is left running.
        """
        await self._tasks.__aenter__()
        try:
            starts: list[asyncio.Future[None]] = []
            for _ in range(self._wanted_count):
                starts.append(start := asyncio.get_running_loop().create_future())
                self._keep(start)
            await asyncio.gather(*starts)
        except BaseException:
            await self._shut()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the pool."""
        await self._shut()

    def resize(self, count: int, *, leaving: Sequence[str] = ()) -> int:
        """Starts workers, or ends idle ones, and returns at once.

        Nothing that runs is ended: while too few are idle, more workers than `count` are kept.

        Args:
            count: how many workers to keep from now on, 1 or more.
            leaving: those that end first, if they are idle; then the newest.

        Returns:
            How many it keeps now.
        """
        if self._closing.is_set():
            return self._wanted_count
        surplus = self._wanted_count - count
        for worker in self._idle(leaving)[: max(0, surplus)]:
            self._leaving.add(worker.worker_id)
            worker.exit()
            self._wanted_count -= 1
        self._wanted_count = max(self._wanted_count, count)
        while self._keeper_count < self._wanted_count:
            self._keep()
        return self._wanted_count

    async def close(self) -> None:
        """Ends all workers: `Exit`, then SIGTERM, then SIGKILL; returns when none is left. Idempotent."""
        self._closing.set()
        workers = self.workers
        for worker in workers:
            worker.exit()
        for worker in workers:
            await worker.wait_ended()

    async def _shut(self) -> None:
        try:
            await self.close()
        except BaseException as error:
            await self._tasks.__aexit__(type(error), error, error.__traceback__)
            raise
        await self._tasks.__aexit__(None, None, None)

    def _idle(self, first: Sequence[str]) -> list[Worker]:
        idle = [each for each in self._workers.values() if each.is_ready and not each.is_used]
        idle.reverse()
        return sorted(idle, key=lambda worker: worker.worker_id not in first)

    def _keep(self, started: asyncio.Future[None] | None = None) -> None:
        if started is None:
            # Nobody waits for this one: if it does not come up, that is logged and tried again.
            started = asyncio.get_running_loop().create_future()
            started.set_result(None)
        self._keeper_count += 1
        self._tasks.create_task(self._keep_one(started))

    async def _keep_one(self, started: asyncio.Future[None]) -> None:
        crash_count = 0
        while not self._closing.is_set():
            if self._keeper_count > self._wanted_count:
                break
            worker_id, is_crash = await self._live_one(started)
            crash_count = crash_count + 1 if is_crash else 0
            if crash_count > 1:
                delay_s = min(_BACKOFF_FIRST_S * 2 ** (crash_count - 2), _BACKOFF_MAX_S)
                logger.error("%d workers crashed in a row: the next in %g s", crash_count, delay_s)
                self._backing_off[worker_id] = WorkerBeat(
                    worker_id=worker_id, state="backing_off", crashes=crash_count
                )
                await self._pause(delay_s)
                del self._backing_off[worker_id]
        self._keeper_count -= 1

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _live_one(self, started: asyncio.Future[None]) -> tuple[str, bool]:
        """One worker from start to end; its id, and whether it ended unasked, soon, and having done nothing."""
        self._spawned_count += 1
        mark = f"{owner()}.{self._system.new_id()}"
        worker = Worker(
            f"w{self._spawned_count}",
            mark=f"{_MARK}={mark}",
            clock=self._system.clock,
            machine=self._machine,
            times=self._options.times,
        )
        self._workers[worker.worker_id] = worker
        worker.ready.add_done_callback(lambda _: self._note_ready(worker, started))
        born_at = self._system.clock.monotonic()
        try:
            await self._spawn(worker, mark)
        finally:
            worker.give_up()
            del self._workers[worker.worker_id]
            self._leaving.discard(worker.worker_id)
        age_s = self._system.clock.monotonic() - born_at
        is_idle = worker.finished_count == 0 and age_s < _HEALTHY_S
        return worker.worker_id, is_idle and not worker.is_end_wanted

    async def _spawn(self, worker: Worker, mark: str) -> None:
        env = {**self._environment(), "FLEETLOG_WORKER_ID": worker.worker_id, _MARK: mark}
        try:
            spawned = await self._machine.spawn(lambda fd: self._argv(worker.worker_id, fd), env)
        except OSError as error:
            worker.ready.set_result(Broken(f"a worker process cannot be started: {error}"))
            return
        worker.process = process = spawned.process
        self._events.on_spawned(worker.worker_id, process.pid)
        try:
            await spawned.connect(worker.wire)
            await worker.live(process)
        finally:
            worker.give_up()
            self._note_exit(worker, process.pid)

    def _argv(self, worker_id: str, fd: int) -> list[str]:
        options = self._options
        argv = [sys.executable, "-m", "fleetlog.agents.worker", "--fd", str(fd)]
        argv += ["--worker-id", worker_id, "--concurrency", str(options.concurrency)]
        argv += ["--stop-s", str(options.stop_s)]
        if options.app is not None:
            argv += ["--app", options.app]
        for name in options.pass_env:
            argv += ["--pass-env", name]
        for pair in options.credentials:
            argv += ["--credential", pair]
        if options.profiles is not None:
            argv += ["--profiles", options.profiles]
        return argv

    def _environment(self) -> dict[str, str]:
        # What only agent CLIs may see, the worker keeps from its handlers and commands.
        names = (*WORKER_VARIABLES, *self._options.pass_env, *self._cli_variables)
        return allowed(self._options.environ, names)

    def _note_ready(self, worker: Worker, started: asyncio.Future[None]) -> None:
        match worker.ready.result():
            case Ready(handlers):
                self._handlers = handlers
                self.note_free()
                if not started.done():
                    started.set_result(None)
                return
            case Broken(error):
                trouble = error
            case None:
                trouble = (
                    f"worker {worker.worker_id} ended before it was ready: see what it printed"
                )
        if started.done():
            logger.error("worker %s: %s", worker.worker_id, trouble)
        else:
            started.set_exception(ConfigError(trouble))

    def _note_exit(self, worker: Worker, pid: int) -> None:
        exit_code, number = worker.exit_status()
        if not worker.is_end_wanted:
            how = f"with exit code {exit_code}" if number is None else f"by {signal_name(number)}"
            logger.error("worker %s (pid %d) ended %s", worker.worker_id, pid, how)
        reason = self._reason_of(worker, exit_code)
        self._events.on_exited(worker.worker_id, pid, exit_code, number, reason)

    def _reason_of(self, worker: Worker, exit_code: int | None) -> str:
        if worker.worker_id in self._leaving:
            return "there was nothing for it to do"
        if worker.is_end_wanted:
            return "its agent ended it" if self._closing.is_set() else "ended with an attempt"
        if not isinstance(worker.ready.done() and worker.ready.result(), Ready):
            return "ended before it was ready"
        return "ended by itself" if exit_code == 0 else "crashed"
