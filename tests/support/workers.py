"""Real worker processes for tests: a pool, an app in a folder, and what happened to them."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from fleetlog.agents.frames import Done, Run
from fleetlog.agents.pool import PoolOptions, WorkerPool
from fleetlog.agents.worker_process import Worker
from fleetlog.agents.worker_run import OnSign
from fleetlog.bus.system import System
from fleetlog.schemas.beats import OutputChunk

_run_ids = itertools.count(1)


class Happenings:
    """The pool's events, which a test can await."""

    def __init__(self) -> None:
        self.spawned: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.exited: asyncio.Queue[tuple[str, int, int | None, int | None]] = asyncio.Queue()
        self.reasons: list[str] = []
        """Why each ended, in order."""

    def on_spawned(self, worker_id: str, pid: int) -> None:
        self.spawned.put_nowait((worker_id, pid))

    def on_exited(
        self, worker_id: str, pid: int, exit_code: int | None, signal: int | None, reason: str
    ) -> None:
        self.reasons.append(reason)
        self.exited.put_nowait((worker_id, pid, exit_code, signal))


class Heard:
    """An attempt's output, which a test can await."""

    def __init__(self) -> None:
        self.chunks: list[OutputChunk] = []
        self._came = asyncio.Event()

    def __call__(self, chunks: Sequence[OutputChunk]) -> None:
        self.chunks.extend(chunks)
        self._came.set()

    def text(self, *streams: str) -> str:
        return "".join(c.text for c in self.chunks if not streams or c.stream in streams)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text not in self.text():
                self._came.clear()
                await self._came.wait()


def options(folder: Path | None = None, **changes: object) -> PoolOptions:
    environ = dict(os.environ)
    if folder is not None:
        environ["PYTHONPATH"] = str(folder)
    return msgspec.structs.replace(PoolOptions(size=1, environ=environ), **changes)


def pool(
    folder: Path | None = None, *, events: Happenings | None = None, **changes: object
) -> WorkerPool:
    return WorkerPool(options(folder, **changes), system=System(), events=events or Happenings())


def python_run(handler: str, args: object = None, **fields: object) -> Run:
    return _run("python", handler, {} if args is None else args, fields)


def command_run(*argv: str, **fields: object) -> Run:
    args = {name: fields.pop(name) for name in ("stdin", "env", "cwd") if name in fields}
    return _run("command", "test", {"argv": argv, **args}, fields)


def _run(executor: str, handler: str, args: object, fields: Mapping[str, object]) -> Run:
    run_id = next(_run_ids)
    run = Run(
        run_id=run_id,
        task_id=f"task-{run_id}",
        attempt=1,
        fence=run_id,
        executor=executor,
        handler=handler,
        args=msgspec.json.encode(args),
    )
    return msgspec.structs.replace(run, **fields)


class Running:
    """An attempt that was started in a worker."""

    def __init__(self, worker: Worker, run: Run, *, on_alive: OnSign | None = None) -> None:
        self.run = run
        self.worker = worker
        self.heard = Heard()
        self.started = asyncio.Event()
        self._done = asyncio.ensure_future(
            worker.run(run, on_output=self.heard, on_started=self.started.set, on_alive=on_alive)
        )

    async def done(self) -> Done:
        async with asyncio.timeout(30):
            return await self._done


async def run_one(pool: WorkerPool, run: Run) -> tuple[Done, Heard]:
    slot = await pool.acquire()
    try:
        running = Running(slot.worker, run)
        return await running.done(), running.heard
    finally:
        slot.release()


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return Path("/proc").is_dir() is False


async def until_gone(pid: int, timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while is_alive(pid):  # noqa: ASYNC110 - nothing tells a stranger of a process's end
            await asyncio.sleep(0.02)
