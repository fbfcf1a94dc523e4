"""How other commands find the server that runs on a data folder."""

from __future__ import annotations

import asyncio
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleetlog.bus.embedded.config import Folder
from fleetlog.bus.embedded.files import is_held, write_private
from fleetlog.bus.errors import Unavailable
from fleetlog.bus.settings import Durability, Settings

Attested = Literal["always", "relaxed", "unattested"]

_VARZ_TIMEOUT_S: Final = 2.0


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server that runs, as its `runtime.json` says; readable by its owner only."""

    url: str
    """For clients."""
    user: str
    """Generated."""
    password: str
    """Generated."""
    http_url: str
    """Monitoring, loopback only."""
    durability: Durability
    """As configured."""
    server_pid: int
    """The nats-server's."""
    up_pid: int
    """Of the process that keeps it, such as `fleetlog up`."""
    fleet: str
    """The fleet whose data folder it is."""
    version: str
    """Of fleetlog."""
    started_at: datetime
    """Of the server."""


class Stale(msgspec.Struct, frozen=True):
    """A server was started here, and the process that kept it ended without stopping it."""

    last: Running
    """What it was. The nats-server itself may still run."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to connect."""

    url: str
    """Of the bus; may hold user and password."""
    user: str | None = None
    """None: no user but the one in `url` or `creds`."""
    password: str | None = None
    """Of `user`."""
    creds: Path | None = None
    """A NATS credentials file."""
    http_url: str | None = None
    """The server's monitoring address, where known."""
    durability: Durability | None = None
    """As configured, where known; see `attest_durability`."""
    store: Path | None = None
    """The server's files, where they are on this machine and known."""


def runtime_path(data: Path) -> Path:
    """Where a running server writes how to reach it."""
    return data / "runtime.json"


def write_running(data: Path, running: Running) -> None:
    """Publishes a server on its data folder."""
    write_private(runtime_path(data), msgspec.json.encode(running))


def read_running(data: Path) -> Running | None:
    """What the last server on this folder published; None if it stopped in order."""
    try:
        return msgspec.json.decode(runtime_path(data).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def find_running(settings: Settings) -> Running | Stale | None:
    """The server on the settings' data folder: running, left behind, or none."""
    running = read_running(settings.data)
    if running is None:
        return None
    return running if is_held(settings.data / "up.lock") else Stale(running)


def resolve_target(settings: Settings) -> Target:
    """Where to connect: the settings' address, else the fleet that runs on their data folder.

    Raises:
        Unavailable: no address was given and nothing runs there.
    """
    if settings.url is not None:
        return Target(url=settings.url, creds=settings.creds)
    match find_running(settings):
        case Running() as running:
            return Target(
                url=running.url,
                user=running.user,
                password=running.password,
                http_url=running.http_url,
                durability=running.durability,
                store=Folder(settings.data).store,
            )
        case Stale(last):
            raise Unavailable(
                f"`fleetlog up` (pid {last.up_pid}) ended without stopping on {settings.data}:"
                f" start it again with `fleetlog up --data {settings.data}`, its log is kept"
            )
        case None:
            raise Unavailable(
                f"no fleet runs on {settings.data}: start one with `fleetlog up`, set FLEETLOG_DATA"
                " to the folder of one that runs, or pass --url"
            )


async def attest_durability(http_url: str | None) -> Attested:
    """Asks the server whether it syncs every write to disk before it acknowledges.

    `relaxed` says that it does not; `unattested` that its monitoring address can't be reached.

    Source: nats-server's `/varz`, `jetstream.config.sync_always`, tried on 2.15.1.
    """
    if http_url is None:
        return "unattested"
    return await asyncio.to_thread(_ask_durability, f"{http_url}/varz")


class _Config(msgspec.Struct):
    sync_always: bool = False


class _JetStream(msgspec.Struct):
    config: _Config | None = None


class _Varz(msgspec.Struct):
    jetstream: _JetStream


def _ask_durability(url: str) -> Attested:
    # Without the environment's proxies: the address is this machine's or the cluster's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_VARZ_TIMEOUT_S) as answer:
            varz = msgspec.json.decode(answer.read(), type=_Varz)
    except (OSError, ValueError, msgspec.DecodeError):
        return "unattested"
    if varz.jetstream.config is None:
        return "unattested"
    return "always" if varz.jetstream.config.sync_always else "relaxed"
