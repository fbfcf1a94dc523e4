"""`/healthz` and `/readyz` of a role, for whoever supervises it: systemd, Kubernetes, a load balancer.

As little HTTP as it takes: one request a connection, on loopback, limited in size, time and number.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from fleetlog.bus.errors import ConfigError

REQUEST_TIMEOUT_S: Final = 5.0
LINE_MAX_BYTES: Final = 8 * 1024
LINES_MAX: Final = 100
CONNECTIONS_MAX: Final = 32
_HOST: Final = "127.0.0.1"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}

HealthOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        metavar="PORT",
        help="Answer /healthz and /readyz over HTTP on this port of the loopback interface.",
    ),
]

Lack = Callable[[], str | None]
"""Why the role is not ready; None when it is."""


@asynccontextmanager
async def health_served(port: int | None, lack: Lack) -> AsyncIterator[None]:
    """Answers while the block runs; does nothing without a port.

    `/healthz` is 200 as long as the event loop turns. `/readyz` is 200 when `lack` says None, else 503 with
    what it says.

    Raises:
        ConfigError: the port can't be had.
    """
    if port is None:
        yield
        return
    responder = _Responder(lack)
    try:
        server = await asyncio.start_server(
            responder.on_connection, _HOST, port, limit=LINE_MAX_BYTES
        )
    except OSError as error:
        raise ConfigError(
            f"--health {port}: the port can't be had ({error.strerror}), name another one"
        ) from error
    try:
        yield
    finally:
        server.close()


class _Responder:
    def __init__(self, lack: Lack) -> None:
        self._lack = lack
        self._connections = 0

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._connections += 1
        try:
            if self._connections <= CONNECTIONS_MAX:
                # Whoever goes away, says nothing or says too much gets no answer, or 400.
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(REQUEST_TIMEOUT_S):
                        await self._answer(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read_request(reader)
        if request is None:
            status, body = 400, "this answers GET /healthz and GET /readyz"
        else:
            status, body = self._respond(*request)
        payload = f"{body}\n".encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(payload)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        is_head = request is not None and request[0] == "HEAD"
        writer.write(head.encode() + (b"" if is_head else payload))
        await writer.drain()

    def _respond(self, method: str, path: str) -> tuple[int, str]:
        if path not in ("/healthz", "/readyz"):
            return 404, "there are /healthz and /readyz"
        if method not in ("GET", "HEAD"):
            return 405, "only GET and HEAD"
        lack = self._lack() if path == "/readyz" else None
        return (200, "ok") if lack is None else (503, lack)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str] | None:
    """Method and path; None if it is not HTTP. Reads to the end of the head, lest the answer be cut off."""
    try:
        first = await reader.readline()
        for _ in range(LINES_MAX):
            if not (await reader.readline()).strip():
                break
        else:
            return None
    except ValueError:  # a line is longer than the limit
        return None
    words = first.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    return words[0], words[1].partition("?")[0]
