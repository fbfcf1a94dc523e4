"""`--health`: what a supervisor of processes asks a role."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.command_line import HANDLERS, CommandLine, address
from support.proxy import Proxy

from fleetlog.bus.embedded.ports import free_port
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import ConfigError
from fleetlog.bus.settings import ENVIRONMENT
from fleetlog.bus.system import System
from fleetlog.cli.health import CONNECTIONS_MAX, LINE_MAX_BYTES, LINES_MAX, health_served


@pytest.fixture
def port() -> int:
    return free_port(System().entropy)


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


async def ask(port: int, request: bytes) -> str:
    """Everything that is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        return (await reader.read()).decode()
    except ConnectionResetError:
        return ""
    finally:
        writer.close()


async def get(port: int, path: str) -> str:
    """Status and body."""
    answer = await ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition("\r\n\r\n")
    return f"{head.split()[1]} {body.strip()}"


async def test_healthz_says_that_the_loop_lives_and_readyz_what_is_missing(port: int) -> None:
    lack: list[str | None] = ["it is starting"]
    async with health_served(port, lambda: lack[0]):
        assert await get(port, "/healthz") == "200 ok"
        assert await get(port, "/readyz") == "503 it is starting"
        lack[0] = None
        assert await get(port, "/readyz?verbose=1") == "200 ok"
        assert (await get(port, "/metrics")).startswith("404 ")
        assert (await ask(port, b"POST /readyz HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 405 ")
        head = await ask(port, b"HEAD /readyz HTTP/1.0\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert head.endswith("\r\n\r\n")
    with pytest.raises(OSError, match="onnect"):
        await get(port, "/healthz")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\xff\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"x" * (LINE_MAX_BYTES * 3) + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * (LINES_MAX + 1) + b"\r\n",
    ],
    ids=["tls", "old", "long", "many"],
)
async def test_garbage_is_400_or_nothing_and_does_no_harm(port: int, garbage: bytes) -> None:
    async with health_served(port, lambda: None):
        answer = await ask(port, garbage)
        assert answer == "" or answer.startswith("HTTP/1.1 400 ")
        assert await get(port, "/healthz") == "200 ok"


async def test_connections_are_few_and_go_away_by_themselves(port: int) -> None:
    async with health_served(port, lambda: None):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        _, first = silent[0]
        assert await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n") == ""
        first.close()
        await first.wait_closed()
        async with asyncio.timeout(30):
            # The place is free as soon as the server has seen the end, or the time of the others is up.
            while await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n") == "":
                pass
        for _, writer in silent:
            writer.close()


async def test_a_port_that_is_taken_is_said(port: int) -> None:
    async with health_served(port, lambda: None):
        with pytest.raises(ConfigError, match=f"--health {port}: the port can't be had"):
            async with health_served(port, lambda: None):
                pass


@pytest_asyncio.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.target).running() as running:
        yield running


@pytest.mark.parametrize("role", ["agent", "coordinator", "projector"])
async def test_a_role_is_ready_while_it_is_connected_and_not_told_to_stop(
    proxy: Proxy, fleet: str, tmp_path: Path, port: int, role: str
) -> None:
    environ = {ENVIRONMENT["url"]: address(proxy.target), ENVIRONMENT["fleet"]: fleet}
    cli = CommandLine(tmp_path / "data", **environ)
    (tmp_path / "shown_handlers.py").write_text(HANDLERS)
    more = ("--workers", "1", "--app", "shown_handlers:agent") if role == "agent" else ()
    process = cli.start(role, *more, "--health", str(port), cwd=tmp_path, **QUIET)
    try:
        await until(port, "200 ok")
        proxy.refuse = True
        proxy.cut()
        await until(port, "503 the connection to the bus is gone")
        assert await get(port, "/healthz") == "200 ok"
        proxy.refuse = False
        await until(port, "200 ok")
        if role == "agent":
            await drain(cli, process, port, tmp_path / "flag")
        else:
            process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def drain(cli: CommandLine, process: subprocess.Popen[bytes], port: int, flag: Path) -> None:
    """Tells an agent to stop while a task runs."""
    task_id = (await asyncio.to_thread(cli, "submit", "until", f'{{"path": "{flag}"}}')).out.strip()
    follow = ("task", "output", "--follow", task_id)
    with cli.start(*follow) as following:
        assert following.stdout is not None
        assert await asyncio.to_thread(following.stdout.readline) == b"waiting\n"
        following.terminate()
    process.send_signal(signal.SIGTERM)
    await until(port, "503 it has been told to stop")
    await asyncio.to_thread(flag.touch)


async def until(port: int, wanted: str) -> None:
    """Asks until it is so."""
    seen = ""
    try:
        async with asyncio.timeout(30):
            while seen != wanted:
                try:
                    seen = await get(port, "/readyz")
                except OSError as error:
                    seen = str(error)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{wanted!r} was wanted, {seen!r} it is") from None


async def test_a_wrong_port_is_usage(nowhere: CommandLine) -> None:
    ran = await asyncio.to_thread(nowhere.run, "coordinator", "--health", "0")
    assert ran.code == 2
    assert "--health" in ran.err
