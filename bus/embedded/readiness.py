"""Whether a server is up, and what it said if it is not."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from fleetlog.bus.embedded.config import LOOPBACK, Folder

_INFO_TIMEOUT_S: Final = 1.0
_LOG_LINES_MAX: Final = 6
_LOG_BYTES_MAX: Final = 16_384


async def name_at(port: int) -> str | None:
    """The name of the nats-server that answers on this port, if one does."""
    try:
        async with asyncio.timeout(_INFO_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                line = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return None
    if not line.startswith(b"INFO "):
        return None
    try:
        return msgspec.json.decode(line[5:], type=_Info).server_name
    except msgspec.DecodeError:
        return None


class _Info(msgspec.Struct):
    server_name: str


def log_size(folder: Folder) -> int:
    """The length of the log in bytes; 0 if there is none."""
    try:
        return folder.log.stat().st_size
    except OSError:
        return 0


def log_tail(folder: Folder, start: int) -> str:
    """What the server wrote after `start` bytes: why it gave up, else its last lines."""
    try:
        with folder.log.open("rb") as file:
            # A log that was rotated meanwhile is shorter than it was.
            file.seek(start if start <= log_size(folder) else 0)
            text = file.read(_LOG_BYTES_MAX).decode(errors="replace")
    except OSError as error:
        return f"(nothing: {error.strerror})"
    lines = [line for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if "[FTL]" in line]
    return "\n".join((fatal or lines)[-_LOG_LINES_MAX:])
