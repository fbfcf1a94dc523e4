"""A worker process: takes attempts from its supervisor and runs them. `python -m fleetlog.agents.worker`."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import uvloop

from fleetlog.agents.app import load_app
from fleetlog.agents.environment import COMMAND_VARIABLES, WORKER_VARIABLES, allowed
from fleetlog.agents.executors.agent_cli import AgentCliExecutor
from fleetlog.agents.executors.attempt import Attempt, Ended, Executor
from fleetlog.agents.executors.command import CommandExecutor
from fleetlog.agents.executors.output import AttemptOutput
from fleetlog.agents.executors.profiles import (
    CredentialMode,
    load_profiles,
    read_credentials,
)
from fleetlog.agents.executors.python import PythonExecutor
from fleetlog.agents.executors.streams import redirect
from fleetlog.agents.frames import (
    Broken,
    Done,
    Exit,
    Failed,
    Gathered,
    Output,
    Ready,
    Run,
    Stop,
    ToWorker,
    to_worker_decoder,
)
from fleetlog.agents.groups import kill_marked, signal_group
from fleetlog.agents.handlers import Handler
from fleetlog.agents.wire import Wire, connect
from fleetlog.bus.call import near_names
from fleetlog.bus.collector import calm_collector
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.system import System

MARK: Final = "FLEETLOG_WORKER_MARK"
_ENDING_S: Final = 3.0
_ORPHANED_S: Final = 5.0
_EXIT_ORPHANED: Final = 70


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's command line."""

    fd: int
    """Its end of the socketpair."""
    worker_id: str
    """Its name within the agent."""
    concurrency: int = 1
    """Plain functions at once."""
    app: str | None = None
    """`module:attribute`."""
    stop_s: float = 15.0
    """From SIGINT to SIGKILL of a program; SIGTERM comes after two thirds of it."""
    pass_env: tuple[str, ...] = ()
    """More variables that commands may see."""
    credential: tuple[str, ...] = ()
    """`NAME=MODE` of credentials of agent CLIs."""
    profiles: str | None = None
    """A file with more agent CLIs."""


class Runner:
    """Runs attempts as the supervisor says, and ends when it says so or is gone."""

    def __init__(
        self, executors: Mapping[str, Executor], system: System, *, mark: str = ""
    ) -> None:
        self._executors = executors
        self._mark = mark
        self._clock = system.clock
        self._attempts: dict[int, Attempt] = {}
        self._tasks = asyncio.TaskGroup()
        self._end = asyncio.Event()
        self._exit_code = 0
        self.groups: dict[int, int] = {}
        """The process groups of commands, by run id; also read by the thread that notices orphanhood."""
        self.wire: Wire[ToWorker] = Wire(
            to_worker_decoder, self._hear, lambda _: self.end(_EXIT_ORPHANED)
        )

    async def run(self, handlers: dict[str, bytes]) -> int:
        """Takes attempts until the end; answers the exit code. Nothing that it started is left."""
        async with self._tasks:
            self.wire.send(Ready(handlers))
            await self._end.wait()
            for attempt in self._attempts.values():
                attempt.stop("drain")
            give_up_at = self._clock.monotonic() + _ENDING_S
            while self._attempts and self._clock.monotonic() < give_up_at:
                await self._clock.sleep(0.01)
            if self._attempts:
                self.abandon(self._exit_code)
        return self._exit_code

    def end(self, exit_code: int) -> None:
        """Asks for the end."""
        if not self._end.is_set():
            self._exit_code = exit_code
            self._end.set()

    def abandon(self, exit_code: int) -> NoReturn:
        """Ends the process now, whatever still runs in it; any thread may call it."""
        for pgid in tuple(self.groups.values()):
            signal_group(pgid, signal.SIGKILL)
        if self._mark:
            # Without a supervisor nobody else looks for what left those groups.
            kill_marked(f"{MARK}={self._mark}")
        os._exit(exit_code)

    def _hear(self, messages: list[ToWorker]) -> None:
        for message in messages:
            match message:
                case Run():
                    self._start(message)
                case Stop(run_id, why):
                    if attempt := self._attempts.get(run_id):
                        attempt.stop(why)
                case Gathered(run_id):
                    if attempt := self._attempts.get(run_id):
                        attempt.gathered(message)
                case Exit():
                    self.end(0)

    def _start(self, run: Run) -> None:
        if self._end.is_set():
            return
        run_id = run.run_id
        output = AttemptOutput(
            lambda chunks: self.wire.send(Output(run_id, chunks)), self.wire.drain, self._clock
        )
        attempt = Attempt(
            run,
            output=output,
            send=self.wire.send,
            note_group=lambda pgid: self.groups.__setitem__(run_id, pgid),
            clock=self._clock,
        )
        self._attempts[run_id] = attempt
        self._tasks.create_task(self._run_attempt(attempt))

    async def _run_attempt(self, attempt: Attempt) -> None:
        run = attempt.run
        started_at = self._clock.monotonic()
        executor = self._executors.get(run.executor)
        if executor is None:
            text = f"no executor {run.executor!r} here{near_names(run.executor, self._executors)}"
            ended = Ended(Failed("unknown_handler", text, is_permanent=True))
        else:
            ended = await executor.run(attempt)
        ran_ms = round((self._clock.monotonic() - started_at) * 1000)
        attempt.output.close()
        self.groups.pop(run.run_id, None)
        del self._attempts[run.run_id]
        self.wire.send(
            Done(
                run.run_id,
                ended.outcome,
                ran_ms,
                ended.exit_code,
                ended.usage,
                ended.session_id,
                ended.utilizations,
            )
        )


class LoadedApp(msgspec.Struct, frozen=True):
    """What the worker got from `--app`."""

    handlers: Mapping[str, Handler] = {}
    """By name."""
    schemas: dict[str, bytes] = {}
    """Of their arguments."""
    trouble: str | None = None
    """Why it could not be loaded."""


def load(app: str | None) -> LoadedApp:
    """Loads the app, if there is one. Outside of the loop: a module may run one of its own."""
    if app is None:
        return LoadedApp()
    try:
        agent = load_app(app)
        return LoadedApp(agent.handlers, agent.schemas())
    except ConfigError as error:
        return LoadedApp(trouble=str(error))


async def serve(settings: WorkerSettings, app: LoadedApp, environ: Mapping[str, str]) -> int:
    """Runs a worker to its end; answers its exit code."""
    lifeline = os.dup(settings.fd)
    threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="attempt")
    runner = Runner(
        {**_programs(settings, environ), "python": PythonExecutor(app.handlers, threads)},
        System(),
        mark=environ.get(MARK, ""),
    )
    await connect(socket.socket(fileno=settings.fd), runner.wire)
    if app.trouble is not None:
        runner.wire.send(Broken(app.trouble))
        await runner.wire.wait_closed()
        return 1
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.end, 128 + signal.SIGTERM)
    threading.Thread(target=_watch_lifeline, args=(lifeline, runner), daemon=True).start()
    exit_code = await runner.run(app.schemas)
    await runner.wire.wait_closed()
    threads.shutdown(wait=False, cancel_futures=True)
    return exit_code


def _programs(settings: WorkerSettings, environ: Mapping[str, str]) -> dict[str, Executor]:
    """The executors that start programs."""
    mark = environ.get(MARK, "")
    credentials: Mapping[str, CredentialMode] = read_credentials(settings.credential)
    clis: dict[str, Executor] = {
        name: AgentCliExecutor(
            name,
            profile,
            environ,
            mark=mark,
            stop_s=settings.stop_s,
            credentials=credentials,
        )
        for name, profile in load_profiles(settings.profiles).items()
    }
    seen_by_commands = allowed(environ, (*COMMAND_VARIABLES, *settings.pass_env))
    commands = CommandExecutor(seen_by_commands, mark=mark, stop_s=settings.stop_s)
    return {**clis, "command": commands}


def _watch_lifeline(fd: int, runner: Runner) -> None:
    """Ends an orphan whose loop is blocked by a handler and so does not notice that the supervisor is gone."""
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll()
    time.sleep(_ORPHANED_S)
    runner.abandon(_EXIT_ORPHANED)


def read_settings(argv: Sequence[str]) -> WorkerSettings:
    """Reads a worker's command line."""
    parser = argparse.ArgumentParser("fleetlog.agents.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--worker-id", required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--app")
    parser.add_argument("--stop-s", type=float, default=15.0)
    parser.add_argument("--credential", action="append", default=[])
    parser.add_argument("--profiles")
    parser.add_argument("--pass-env", action="append", default=[])
    return msgspec.convert(vars(parser.parse_args(argv)), WorkerSettings)


def main() -> NoReturn:
    """The process: set the streams up, serve, end."""
    settings = read_settings(sys.argv[1:])
    faulthandler.enable()
    _keep_to_own_files(settings.fd)
    redirect()
    environ = dict(os.environ)
    _keep_from_handlers(settings.pass_env)
    # Started in the background of a shell it would ignore SIGINT, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app = load(settings.app)
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        exit_code = runner.run(serve(settings, app, environ))
    sys.exit(exit_code)


def _keep_from_handlers(pass_env: Sequence[str]) -> None:
    """Takes out of the environment what this process has for agent CLIs only."""
    seen = allowed(os.environ, (*WORKER_VARIABLES, *pass_env, "FLEETLOG_*"))
    for name in set(os.environ) - set(seen):
        del os.environ[name]


def _keep_to_own_files(fd: int) -> None:
    """Lets go of what this process got by chance, and passes nothing of its own on to its children.

    A socket of another worker that is held here too would hide that worker's end from the supervisor.
    """
    # The supervisor's stdout is not for the output of tasks.
    os.dup2(2, 1)
    for entry in tuple(Path("/dev/fd").iterdir()):
        number = int(entry.name)
        try:
            is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
            if number > 2 and number != fd and is_socket:
                os.close(number)
            elif number > 2:
                os.set_inheritable(number, False)  # noqa: FBT003 - takes no names
        except OSError:
            # The one that listed the folder.
            continue


if __name__ == "__main__":
    main()
