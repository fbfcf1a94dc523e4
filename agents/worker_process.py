"""The supervisor's side of one worker process: its life, and the attempts that run in it."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Final, Literal

import msgspec

from fleetlog.agents.footprint import Footprint
from fleetlog.agents.frames import (
    Broken,
    Done,
    Exit,
    Gathered,
    Output,
    Ready,
    Run,
    Stop,
    StopWhy,
    ToSupervisor,
    to_supervisor_decoder,
)
from fleetlog.agents.groups import signal_name
from fleetlog.agents.machine import Machine
from fleetlog.agents.wire import Wire
from fleetlog.agents.worker_run import OnArtifact, OnOutput, OnSign, OnWish, WorkerRun
from fleetlog.bus.errors import FleetlogError
from fleetlog.bus.system import Clock, Process
from fleetlog.schemas.beats import WorkerBeat

logger = logging.getLogger("fleetlog.agents")

_LAST_WORDS_S: Final = 1.0


class WorkerDied(FleetlogError):
    """The worker process ended under its attempts; what they did outside may have happened.

    Attributes:
        exit_code: None when a signal ended it.
        signal: the signal that ended it.
    """

    def __init__(
        self,
        worker_id: str,
        exit_code: int | None,
        signal_number: int | None,
        why: str | None = None,
    ) -> None:
        how = f"exit code {exit_code}" if signal_number is None else signal_name(signal_number)
        super().__init__(why or f"worker {worker_id} ended with {how} while the attempt ran in it")
        self.exit_code = exit_code
        self.signal = signal_number


class WorkerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the pool is with its workers."""

    start_s: float = 60.0
    """From the start of the process to `Ready`: the time to import the app."""
    exit_s: float = 5.0
    """From `Exit` to SIGTERM."""
    grace_s: float = 5.0
    """From SIGTERM to SIGKILL."""


class Worker:
    """One worker process. Made by `WorkerPool`; ids are never used again within an agent."""

    def __init__(
        self, worker_id: str, *, mark: str, clock: Clock, machine: Machine, times: WorkerTimes
    ) -> None:
        self.worker_id = worker_id
        self.process: Process | None = None
        self.ready: asyncio.Future[Ready | Broken | None] = (
            asyncio.get_running_loop().create_future()
        )
        """Its first word; None when it ended without one."""
        self.slots_held = 0
        self.slots_lent = 0
        self.finished_count = 0
        self.is_ending = False
        """It takes nothing new: it was asked to end, or it has ended."""
        self.is_ended = False
        """Nothing of it is left."""
        self.is_end_wanted = False
        """Someone asked `kill` or `exit`."""
        self._why: str | None = None
        self._has_come_up = False
        self._mark = mark
        self._clock = clock
        self._machine = machine
        self._times = times
        self._attempts: dict[int, WorkerRun] = {}
        self._end_asked = asyncio.Event()
        self._kill_asked = asyncio.Event()
        self._lost = asyncio.Event()
        self._ended = asyncio.Event()
        self.wire: Wire[ToSupervisor] = Wire(to_supervisor_decoder, self._hear, self._lose)

    @property
    def pid(self) -> int | None:
        """Its process id and process group; None before it has started."""
        return None if self.process is None else self.process.pid

    @property
    def is_ready(self) -> bool:
        """It takes attempts."""
        return self._has_come_up and not self.is_ending

    @property
    def state(self) -> Literal["starting", "idle", "busy", "stopping"]:
        """What a beat says of it."""
        if self.is_ending or self.is_ended:
            return "stopping"
        if not self.is_ready:
            return "starting"
        return "busy" if self._attempts else "idle"

    def footprint(self) -> Footprint | None:
        """What it uses of the machine, with all that it started; None if that can't be known."""
        return None if self.pid is None else self._machine.footprint(self.pid)

    def beat(self) -> WorkerBeat:
        """Its part of the agent's beat."""
        oldest = next(iter(self._attempts.values()), None)
        used = self.footprint()
        return WorkerBeat(
            worker_id=self.worker_id,
            pid=self.pid,
            state=self.state,
            running=len(self._attempts),
            task_id=None if oldest is None else oldest.run.task_id,
            attempt=None if oldest is None else oldest.run.attempt,
            usage=None if oldest is None else oldest.usage,
            output_at=None if oldest is None else oldest.output_at,
            rss_bytes=None if used is None else used.rss_bytes,
            cpu_s=None if used is None else used.cpu_s,
        )

    async def run(
        self,
        run: Run,
        *,
        on_output: OnOutput | None = None,
        on_started: OnSign | None = None,
        on_alive: OnSign | None = None,
        on_artifact: OnArtifact | None = None,
        on_wish: OnWish | None = None,
    ) -> Done:
        """Runs an attempt to its end. Cancelling this call ends nothing: ask `stop` or `kill`.

        Args:
            run: its `run_id` has not been used with this worker.
            on_output: gets pieces of output in order, from within the loop; must not raise.
            on_started: called when a command's process runs.
            on_alive: called for a sign of life that is not output.
            on_artifact: gets each file that the attempt leaves behind.
            on_wish: gets what the attempt wants of the fleet.

        Raises:
            WorkerDied: the process ended first, or was not there any more.
            FrameTooLarge: the arguments are too large; nothing ran.
        """
        if self.is_ended:
            raise WorkerDied(self.worker_id, *self.exit_status(), self._why)
        self.wire.send(run)
        attempt = WorkerRun(run, on_output, on_started, on_alive, on_artifact, on_wish)
        self._attempts[run.run_id] = attempt
        return await attempt.done

    def stop(self, run_id: int, why: StopWhy) -> None:
        """Asks for an attempt's end; `run` then answers, unless its handler does not obey: then `kill`."""
        if run_id in self._attempts:
            self.wire.send(Stop(run_id, why))

    def answer(self, message: Gathered) -> None:
        """Tells an attempt what it waits for; one that has ended does not hear it."""
        if message.run_id in self._attempts:
            self.wire.send(message)

    def kill(self) -> None:
        """Ends the process and all that it started: SIGTERM, after the grace SIGKILL. See `wait_ended`."""
        self.is_end_wanted = True
        self._kill()

    def put_down(self, why: str) -> None:
        """Ends the process and all that it started at once, through the fault of what runs in it.

        Args:
            why: what its attempts are told instead of the signal.
        """
        logger.error("%s", why)
        self._why = why
        self.is_ending = True
        for pgid in (*self._pgids(), *([] if self.pid is None else [self.pid])):
            self._machine.signal_group(pgid, signal.SIGKILL)

    @property
    def is_used(self) -> bool:
        """An attempt runs in it, or waits in it for what it gathers."""
        return self.slots_held > 0 or self.slots_lent > 0

    def exit(self) -> None:
        """Asks the process to end in order; it is killed if it does not."""
        self.is_end_wanted = self.is_ending = True
        self.wire.send(Exit())
        self._end_asked.set()

    async def wait_ended(self) -> None:
        """Waits until neither the process nor a command of it is left."""
        await self._ended.wait()

    def exit_status(self) -> tuple[int | None, int | None]:
        """Exit code and signal, one of them None; both None while it runs."""
        code = None if self.process is None else self.process.returncode
        if code is not None and code < 0:
            return None, -code
        return code, None

    async def live(self, process: Process) -> None:
        """Watches over the process until it has ended and nothing of it is left; then tells every attempt.

        If this call is cancelled, all of that is done at once, with SIGKILL.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                ender = tasks.create_task(self._end_when_asked(process))
                starter = tasks.create_task(self._insist_on_start())
                await process.wait()
                self.is_ending = True
                ender.cancel()
                starter.cancel()
            await self._hear_last_words()
            await self._sweep()
        finally:
            self.give_up()
            # At once: it has ended, or has just got a SIGKILL.
            await process.wait()

    def give_up(self) -> None:
        """Leaves nothing of it running and nobody waiting, without waiting for anything."""
        for pgid in self._pgids():
            self._machine.signal_group(pgid, signal.SIGKILL)
        if self.pid is not None:
            self._machine.signal_group(self.pid, signal.SIGKILL)
        self.is_ended = self.is_ending = True
        self.wire.close()
        if not self.ready.done():
            self.ready.set_result(None)
        for attempt in self._attempts.values():
            if not attempt.done.done():
                death = WorkerDied(self.worker_id, *self.exit_status(), self._why)
                attempt.done.set_exception(death)
                # Nobody may wait for it any more; then it is not an error that nobody looked.
                attempt.done.exception()
        self._attempts.clear()
        self._ended.set()

    async def _hear_last_words(self) -> None:
        # What it said before it died counts.
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._lost.wait()
        except TimeoutError:
            logger.warning("a process that worker %s left behind holds its socket", self.worker_id)

    async def _sweep(self) -> None:
        if self.pid is not None:
            self._machine.signal_group(self.pid, signal.SIGKILL)
        await self._machine.end_groups(self._pgids(), self._times.grace_s)
        if self.exit_status() != (0, None):
            await self._machine.sweep(self._mark, self._times.grace_s)

    def _pgids(self) -> list[int]:
        return [pgid for attempt in self._attempts.values() for pgid in attempt.pgids]

    def _kill(self) -> None:
        self.is_ending = True
        self._end_asked.set()
        self._kill_asked.set()

    async def _end_when_asked(self, process: Process) -> None:
        await self._end_asked.wait()
        try:
            async with asyncio.timeout(self._times.exit_s):
                await self._kill_asked.wait()
        except TimeoutError:
            pass
        self._machine.signal_group(process.pid, signal.SIGTERM)
        await self._clock.sleep(self._times.grace_s)
        logger.warning(
            "worker %s did not end within %g s of SIGTERM: it is killed",
            self.worker_id,
            self._times.grace_s,
        )
        self._machine.signal_group(process.pid, signal.SIGKILL)

    async def _insist_on_start(self) -> None:
        await self._clock.sleep(self._times.start_s)
        if not self.ready.done():
            logger.error(
                "worker %s was not ready within %g s: it is killed",
                self.worker_id,
                self._times.start_s,
            )
            self._kill()

    def _lose(self, why: str) -> None:
        self._lost.set()
        if not self.is_ending:
            # Most often the process is just ending, and it is noticed a moment later.
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._kill_deaf, why)

    def _kill_deaf(self, why: str) -> None:
        if not self.is_ending:
            logger.error("worker %s cannot be spoken to (%s): it is killed", self.worker_id, why)
            self._kill()

    def _hear(self, messages: list[ToSupervisor]) -> None:
        for message in messages:
            match message:
                case Output(run_id, chunks):
                    if attempt := self._attempts.get(run_id):
                        attempt.hear_output(chunks, self._clock.now())
                case Done(run_id):
                    if attempt := self._attempts.pop(run_id, None):
                        self.finished_count += 1
                        if not attempt.done.done():
                            attempt.done.set_result(message)
                case Ready() | Broken():
                    if not self.ready.done():
                        self._has_come_up = isinstance(message, Ready)
                        self.ready.set_result(message)
                case _:
                    if attempt := self._attempts.get(message.run_id):
                        attempt.hear(message, self._clock.now())
