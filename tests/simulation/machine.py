"""A simulated machine: its clock, its entropy, and the processes of an agent's workers.

A worker runs fleetlog's own `Runner` on fleetlog's own wire; what is simulated are the process and the socket.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, cast

from fleetlog.agents.executors.attempt import Executor
from fleetlog.agents.executors.python import PythonExecutor
from fleetlog.agents.footprint import Footprint
from fleetlog.agents.handlers import Handler
from fleetlog.agents.machine import Spawned
from fleetlog.agents.strains import Disk
from fleetlog.agents.wire import Wire
from fleetlog.agents.worker import Runner
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.objects import MemoryObjects
from fleetlog.bus.system import System
from fleetlog.schemas.objects import ObjectRef
from simulation.loop import SimLoop, SimProcess
from simulation.server import EPOCH, SimServer

START_S = (0.05, 1.0)
PIPE_S = (0.00001, 0.001)
FREE_BYTES = 10**12


class SimClock:
    """A machine's clock, which may be wrong.

    Args:
        loop: the time there is.
    """

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.skew = timedelta()
        """How far the wall clock is ahead."""
        self.slept_s = 0.0
        """How long the machine slept: the monotonic clock stood still."""

    def now(self) -> datetime:
        """See `Clock`."""
        return EPOCH + timedelta(seconds=self._loop.at) + self.skew

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._loop.at - self.slept_s

    async def sleep(self, delay_s: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(delay_s)


class SimEntropy:
    """See `Entropy`; from the run's seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def random(self) -> float:
        """See `Entropy`."""
        return self._chance.random()

    def bytes(self, count: int) -> bytes:
        """See `Entropy`."""
        return self._chance.randbytes(count)


class SimObjects(MemoryObjects):
    """The object store: one for all, there while the server is.

    Args:
        server: without it nobody answers.
        chance: how long it takes.
        held: what all see.
    """

    def __init__(self, server: SimServer, chance: random.Random, held: dict[str, bytes]) -> None:
        super().__init__()
        self.held = held
        self._server = server
        self._chance = chance

    async def put(self, data: Any) -> ObjectRef:
        """See `Objects`."""
        await self._reach()
        ref = await super().put(data)
        await self._reach()
        return ref

    async def get(self, ref: ObjectRef) -> bytes:
        """See `Objects`."""
        await self._reach()
        return await super().get(ref)

    async def save(self, name: str, data: bytes) -> None:
        """See `Objects`."""
        await self._reach()
        await super().save(name, data)
        await self._reach()

    async def load(self, name: str) -> bytes | None:
        """See `Objects`."""
        await self._reach()
        return await super().load(name)

    async def _reach(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0002, 0.005))
        if not self._server.is_up:
            await asyncio.sleep(5.0)
            raise Unavailable("the object store does not answer")


class SimGauges:
    """A machine with room for everything, until it is told otherwise."""

    def __init__(self) -> None:
        self.free_bytes = FREE_BYTES

    def disk(self) -> Disk | None:
        """See `Gauges`."""
        return Disk(size=10**12, free=self.free_bytes)

    def memory(self) -> int | None:
        """See `Gauges`."""
        return 10**12

    def files(self) -> int | None:
        """See `Gauges`."""
        return 10**6


class _Pipe(asyncio.Transport):
    """One end of a socketpair."""

    def __init__(self, loop: SimLoop, chance: random.Random, owner: SimProcess) -> None:
        super().__init__()
        self._loop = loop
        self._chance = chance
        self._owner = owner
        self._at = 0.0
        self.peer: _Pipe | None = None
        self.protocol: asyncio.Protocol | None = None
        self._early: list[bytes] = []
        self._is_closed = False

    def attach(self, protocol: asyncio.Protocol) -> None:
        """From now on this one hears."""
        self.protocol = protocol
        protocol.connection_made(self)
        for data in self._early:
            protocol.data_received(data)
        self._early.clear()

    def write(self, data: Any) -> None:
        """Arrives at the other end, in order."""
        if self._is_closed or self.peer is None:
            return
        peer, sent = self.peer, bytes(data)
        self._later(peer, lambda: peer.hear(sent))

    def close(self) -> None:
        """Ends it; what was written still arrives."""
        if self._is_closed or self.peer is None:
            return
        self._is_closed = True
        peer = self.peer
        self._later(peer, peer.lose)
        self._loop.call_soon(self.lose, context=self._owner.context)

    def abort(self) -> None:
        """Ends it."""
        self.close()

    def is_reading(self) -> bool:
        """Always."""
        return True

    def hear(self, data: bytes) -> None:
        """Something has come."""
        if self.protocol is None:
            self._early.append(data)
        else:
            self.protocol.data_received(data)

    def lose(self) -> None:
        """The other end is gone."""
        self._is_closed = True
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connection_lost(None)

    def _later(self, to: _Pipe, do: Callable[[], None]) -> None:
        self._at = max(self._at + 1e-9, self._loop.at + self._chance.uniform(*PIPE_S))
        self._loop.call_at(self._at, do, context=to._owner.context)


class SimRunner(Runner):
    """A worker's `Runner`, whose process is simulated."""

    process: SimWorkerProcess

    def abandon(self, exit_code: int) -> NoReturn:
        """See `Runner`."""
        self.process.end(exit_code)
        raise SystemExit(exit_code)


class SimWorkerProcess:
    """See `fleetlog.bus.system.Process`."""

    def __init__(self, loop: SimLoop, code: SimProcess, parent: SimProcess, pid: int) -> None:
        self.code = code
        self.pid = pid
        self.returncode: int | None = None
        self.runner: SimRunner | None = None
        self._loop = loop
        self._parent = parent
        self._ended: list[asyncio.Future[int]] = []

    async def wait(self) -> int:
        """See `Process`."""
        if self.returncode is None:
            ended: asyncio.Future[int] = self._loop.create_future()
            self._ended.append(ended)
            return await ended
        return self.returncode

    def send_signal(self, signal: int) -> None:
        """See `Process`."""
        self.signal(signal)

    def signal(self, number: int) -> bool:
        """Sends it a signal; False when it has ended."""
        if self.returncode is not None:
            return False
        if number == signal.SIGKILL:
            self.end(-number)
        elif number == signal.SIGTERM and self.runner is not None:
            end = self.runner.end
            self._loop.call_soon(end, 128 + number, context=self.code.context)
        return True

    def end(self, returncode: int) -> None:
        """It is over."""
        if self.returncode is not None:
            return
        self.returncode = returncode
        self.code.die(self._loop)

        def tell() -> None:
            for ended in self._ended:
                if not ended.done():
                    ended.set_result(returncode)

        self._loop.call_soon(tell, context=self._parent.context)


class SimMachine:
    """See `fleetlog.agents.machine.Machine`.

    Args:
        loop: the time there is.
        agent: the process whose workers run on it.
        chance: what is random about it.
        handlers: of the app.
        schemas: of their arguments.
        executors: besides `python`.
    """

    def __init__(
        self,
        loop: SimLoop,
        agent: SimProcess,
        chance: random.Random,
        handlers: Mapping[str, Handler],
        schemas: Mapping[str, bytes],
        executors: Mapping[str, Executor],
    ) -> None:
        self._loop = loop
        self._agent = agent
        self._chance = chance
        self._handlers = handlers
        self._schemas = schemas
        self._executors = executors
        self.clock = SimClock(loop)
        self.gauges = SimGauges()
        self.workers: dict[int, SimWorkerProcess] = {}
        """By process id; those that live."""
        self._started = 0

    @property
    def system(self) -> System:
        """Its clock and entropy; it has no other processes."""
        return System(
            clock=self.clock, entropy=SimEntropy(self._chance), processes=cast("Any", None)
        )

    pid = 1

    async def spawn(self, argv: Callable[[int], list[str]], env: Mapping[str, str]) -> Spawned:
        """See `Machine`."""
        self._started += 1
        pid = 1_000_000_000 + self._started
        code = SimProcess(f"{self._agent.name} {env['FLEETLOG_WORKER_ID']}")
        worker = SimWorkerProcess(self._loop, code, self._agent, pid)
        self.workers[pid] = worker
        ours = _Pipe(self._loop, self._chance, self._agent)
        theirs = _Pipe(self._loop, self._chance, code)
        ours.peer, theirs.peer = theirs, ours
        self._agent.on_death.append(ours.close)
        code.on_death += [theirs.close, lambda: self.workers.pop(pid, None) and None]
        self._loop.spawn(code, self._live(worker, theirs))

        async def attach(wire: Wire[Any]) -> None:
            ours.attach(wire)

        return Spawned(worker, attach)

    async def _live(self, worker: SimWorkerProcess, pipe: _Pipe) -> None:
        await asyncio.sleep(self._chance.uniform(*START_S))
        python = PythonExecutor(self._handlers, cast("Any", None))
        runner = SimRunner({**self._executors, "python": python}, self.system)
        runner.process = worker
        worker.runner = runner
        pipe.attach(runner.wire)
        exit_code = await runner.run(dict(self._schemas))
        await runner.wire.wait_closed()
        worker.end(exit_code)

    def signal_group(self, pgid: int, number: int) -> bool:
        """See `Machine`."""
        worker = self.workers.get(pgid)
        return worker is not None and worker.signal(number)

    async def end_groups(self, pgids: Iterable[int], grace_s: float) -> None:
        """See `Machine`: nothing runs here but workers."""

    async def sweep(self, mark: str, timeout_s: float) -> bool:
        """See `Machine`."""
        return True

    def footprint(self, pid: int) -> Footprint | None:
        """See `Machine`."""
        return None

    async def end_leftovers(self) -> None:
        """See `Machine`: a worker without an agent ends by itself."""
