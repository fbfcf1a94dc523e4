"""The embedded server: one real nats-server on one data folder, kept by one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fleetlog.bus.embedded.binary import find_binary
from fleetlog.bus.embedded.config import (
    LOOPBACK,
    USER,
    Folder,
    Marker,
    read_marker,
    read_password,
    write_config,
)
from fleetlog.bus.embedded.files import FolderLock, make_private_folder
from fleetlog.bus.embedded.orphan import find_orphan, stop_orphan
from fleetlog.bus.embedded.ports import choose_ports
from fleetlog.bus.embedded.readiness import log_size, log_tail, name_at
from fleetlog.bus.embedded.runtime import (
    Running,
    Target,
    read_running,
    runtime_path,
    write_running,
)
from fleetlog.bus.errors import ConfigError, Refused, Unavailable
from fleetlog.bus.settings import Durability, Settings, child_environment
from fleetlog.bus.system import Process, System

START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.01
_TELL_AFTER_S: Final = 5.0


class EmbeddedServer:
    """A nats-server on `settings.data`, loopback only, with generated credentials.

    Entering starts it and returns when it takes connections; leaving stops it. While entered, nobody else can
    start a server on this folder, and other commands find it by `resolve_target`. Its death does not end the
    context: await `wait`, then call `restart`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        system: System | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Args:
        settings: `data`, `fleet`, `durability`, `port` and `nats_server` count.
        system: clock, randomness and processes; None for the machine's.
        notice: is told, in a sentence, what a person should know.
        """
        self._settings = settings
        self._system = system or System()
        self._notice = notice
        self._folder = Folder(settings.data)
        self._lock = FolderLock(settings.data / "up.lock")
        self._process: Process | None = None
        self._running: Running | None = None
        self._marker: Marker | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self._settings.data

    @property
    def running(self) -> Running:
        """The server as it runs, or last ran."""
        assert self._running is not None, "the server was not started"
        return self._running

    @property
    def target(self) -> Target:
        """What a client needs to connect; stays the same over restarts."""
        running = self.running
        return Target(
            url=running.url,
            user=running.user,
            password=running.password,
            http_url=running.http_url,
            durability=running.durability,
            store=self._folder.store,
        )

    async def __aenter__(self) -> Self:
        """Raises:
        Refused: another process keeps a server on this folder.
        ConfigError: the folder, the binary or the port can't be used; the message quotes the server's log.
        Unavailable: the server did not come up in time.
        """
        settings = self._settings
        self._binary = await find_binary(settings)
        make_private_folder(settings.data)
        read_marker(self._folder, settings.fleet)
        await self._take_folder()
        try:
            await self._clear_folder()
            self._marker = choose_ports(settings, self._folder, self._system.entropy, self._notice)
            await self._launch()
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._end_process(STOP_TIMEOUT_S)
        finally:
            runtime_path(self._settings.data).unlink(missing_ok=True)
            self._lock.release()

    async def wait(self) -> int:
        """Returns when the server's process has ended, however it did: its exit code, negative for a signal."""
        assert self._process is not None, "the server was not started"
        return await self._process.wait()

    async def restart(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Starts the server again, on the same store and port; one that still runs is stopped first.

        Raises:
            ConfigError: it does not start; the message quotes its log. May be called again.
            Unavailable: it did not come up in time. May be called again.
        """
        await self._end_process(timeout_s)
        await self._launch()

    def kill(self) -> None:
        """Ends the server at once. Nothing acknowledged is lost: that is in the kernel's hands at least."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    async def _take_folder(self) -> None:
        if await self._lock.acquire(self._system.clock):
            self._lock.write_owner(os.getpid())
            return
        data = self._settings.data
        pid = self._lock.read_owner()
        running = read_running(data)
        where = f" at {running.url}" if running is not None else ""
        raise Refused(
            f"a fleet runs on {data} already{where}, kept by pid {pid or 'unknown'}: use it, stop it"
            " with SIGTERM to that process, or name another folder with --data"
        )

    async def _clear_folder(self) -> None:
        """Makes sure that no server of an earlier life works on the store."""
        lock = FolderLock(self._folder.lock)
        clock = self._system.clock
        if not await lock.acquire(clock):
            pid = await find_orphan(self._folder, clock)
            self._notice(
                f"a nats-server (pid {pid}) was left behind on {self._folder.data} by a fleetlog"
                " that was killed; stopping it"
            )
            await stop_orphan(self._folder, pid, clock)
        lock.release()
        runtime_path(self._settings.data).unlink(missing_ok=True)

    async def _launch(self) -> None:
        marker, folder, settings = self._marker, self._folder, self._settings
        assert marker is not None
        if read_marker(folder, settings.fleet) != marker:
            # A server started now would begin an empty log where a full one is believed to be.
            raise ConfigError(f"{folder.server} has been removed or replaced: put it back")
        # The name tells this very start from another program, or an older server, on the same port.
        name = f"fleetlog-{settings.fleet}-{self._system.entropy.bytes(4).hex()}"
        password = read_password(folder, self._system.entropy)
        write_config(
            folder, marker=marker, name=name, password=password, durability=settings.durability
        )
        log_start = log_size(folder)
        self._process = await self._start_process()
        try:
            await self._await_ready(name, marker.port, log_start)
            self._running = Running(
                url=f"nats://{LOOPBACK}:{marker.port}",
                user=USER,
                password=password,
                http_url=f"http://{LOOPBACK}:{marker.http_port}",
                durability=settings.durability,
                server_pid=self._process.pid,
                up_pid=os.getpid(),
                fleet=settings.fleet,
                version=metadata.version("fleetlog"),
                started_at=self._system.clock.now(),
            )
            write_running(settings.data, self._running)
        except BaseException:
            self.kill()
            await self._process.wait()
            raise

    async def _start_process(self) -> Process:
        lock = FolderLock(self._folder.lock)
        if not await lock.acquire(self._system.clock):
            raise ConfigError(f"another nats-server works on {self._folder.store}: stop it first")
        try:
            # The server inherits the lock, so that the store counts as in use as long as it lives.
            return await self._system.processes.start(
                [str(self._binary), "-c", str(self._folder.config)],
                env=_environment(self._settings.durability, os.cpu_count() or 1),
                fds=[lock.descriptor],
            )
        except OSError as error:
            raise ConfigError(f"{self._binary} can't be started: {error.strerror}") from error
        finally:
            lock.release()

    async def _await_ready(self, name: str, port: int, log_start: int) -> None:
        assert self._process is not None
        clock = self._system.clock
        started_at = clock.monotonic()
        has_told = False
        while await name_at(port) != name:
            if self._process.returncode is not None:
                raise ConfigError(
                    f"nats-server ended with {self._process.returncode} on its start;"
                    f" {self._folder.log} says:\n{log_tail(self._folder, log_start)}"
                )
            waited_s = clock.monotonic() - started_at
            if waited_s > _TELL_AFTER_S and not has_told:
                has_told = True
                self._notice("nats-server reads its log, which takes a while after a crash")
            if waited_s > START_TIMEOUT_S:
                raise Unavailable(
                    f"nats-server takes no connections after {START_TIMEOUT_S:.0f} s;"
                    f" {self._folder.log} says:\n{log_tail(self._folder, log_start)}"
                )
            await clock.sleep(_POLL_S)

    async def _end_process(self, timeout_s: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            self._notice(f"nats-server did not end within {timeout_s:.0f} s and is killed")
        finally:
            self.kill()
        await process.wait()


def _environment(durability: Durability, cores: int) -> dict[str, str]:
    """The server's. Under `relaxed` it gets half of the cores unless the user's own GOMAXPROCS says otherwise:
    nothing it does waits for the disk, and on more it spins for work on those that agents and workers need.
    """
    defaults = {"GOMAXPROCS": str(max(1, cores // 2))} if durability == "relaxed" else {}
    return defaults | child_environment({})
