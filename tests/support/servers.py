"""A nats-server with a configuration of the test's own, and disks that can be filled."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleetlog.bus.embedded.binary import find_binary
from fleetlog.bus.embedded.ports import free_port
from fleetlog.bus.embedded.readiness import name_at
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.bus.jetstream.streams import ensure_streams, log_config
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import System

READY_TIMEOUT_S = 30.0


async def make_limited(connection: Connection, fleet: str, *, max_bytes: int) -> dict[str, Any]:
    """Makes a fleet's streams, with a limit to the log's size; answers the log's configuration."""
    config = log_config(fleet, 1) | {"max_bytes": max_bytes}
    await connection.request(f"$JS.API.STREAM.CREATE.{config['name']}", config)
    await ensure_streams(connection, fleet)
    return config


@asynccontextmanager
async def plain_server(folder: Path, *lines: str) -> AsyncIterator[str]:
    """The address of a server with JetStream and further lines of configuration."""
    port = free_port(System().entropy)
    config = folder / "plain.conf"
    own = (
        f'listen: "127.0.0.1:{port}"',
        "jetstream {",
        f'  store_dir: "{folder / "store"}"',
        "  sync_interval: always",
        "}",
    )
    config.write_text("\n".join((*own, *lines)) + "\n")
    binary = await find_binary(Settings(data=folder))
    with config.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen([binary, "-c", config], stdout=log, stderr=log)  # noqa: ASYNC220 - it returns at once
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while await name_at(port) is None:
                assert process.poll() is None, config.with_suffix(".log").read_text()
                await asyncio.sleep(0.02)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A disk of so many MiB; skips the test where nobody may mount one."""
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    options = ["-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, free_bytes: int = 0) -> Path:
    """Leaves so much of a disk; answers the file that holds the rest."""
    filler = disk / "filler"
    left = os.statvfs(disk)
    rest = left.f_bavail * left.f_frsize - free_bytes
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while rest > 0:
            rest -= os.write(descriptor, bytes(min(rest, 4096)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)
    return filler
