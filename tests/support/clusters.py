"""Three real nats-servers that keep a log three times, with the configuration that deploy/ gives to people."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fleetlog.bus.embedded.binary import find_binary
from fleetlog.bus.embedded.ports import free_port
from fleetlog.bus.embedded.runtime import Target
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.jetstream.streams import ensure_streams
from fleetlog.bus.settings import Settings
from fleetlog.bus.system import System
from fleetlog.schemas.subjects import stream_names

NATS = Path(__file__).resolve().parents[2] / "deploy" / "nats"
PASSWORD = "not-a-secret"
NODES = ("one", "two", "three")
READY_TIMEOUT_S = 60.0
_POLL_S = 0.05


class Node:
    """One nats-server of the three."""

    def __init__(self, name: str, folder: Path, ports: tuple[int, int, int]) -> None:
        self.name = name
        self.folder = folder
        self.port, self.http_port, self.cluster_port = ports
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, binary: Path, routes: list[str]) -> None:
        said = {
            "NATS_NAME": self.name,
            "NATS_LISTEN": f"127.0.0.1:{self.port}",
            "NATS_HTTP": f"127.0.0.1:{self.http_port}",
            "NATS_STORE": str(self.folder / "store"),
            "NATS_PASSWORD": PASSWORD,
            "NATS_CLUSTER_LISTEN": f"127.0.0.1:{self.cluster_port}",
            "NATS_CLUSTER_PASSWORD": PASSWORD,
        }
        quoted = {name: json.dumps(value) for name, value in said.items()}
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [binary, "-c", NATS / "cluster.conf"],
                env={**os.environ, **quoted, "NATS_ROUTES": json.dumps(routes)},
                stdout=output,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> None:
        """Returns when its process has ended."""
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, 30)

    async def ask(self, path: str) -> dict[str, Any]:
        """What its monitoring port says; empty if nobody answers."""
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.http_port}/{path}")


class Cluster:
    """The three, and who leads."""

    def __init__(self, binary: Path, nodes: list[Node]) -> None:
        self.nodes = nodes
        self._binary = binary
        self._routes = [f"nats://node:{PASSWORD}@127.0.0.1:{node.cluster_port}" for node in nodes]

    @property
    def target(self) -> Target:
        """All three addresses."""
        return self.target_of(*self.nodes)

    def target_of(self, *nodes: Node) -> Target:
        urls = ",".join(node.url for node in nodes)
        return Target(url=urls, user="fleetlog", password=PASSWORD)

    def start(self, *nodes: Node) -> None:
        for node in nodes or self.nodes:
            node.start(self._binary, self._routes)

    async def stop(self) -> None:
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            node.send(signal.SIGKILL)
        for node in self.nodes:
            await node.wait()

    async def wait_ready(self) -> None:
        """Returns when all three take connections, agree on a leader, and that one has heard of all."""
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await self._is_ready():  # noqa: ASYNC110 - the servers are other processes
                await asyncio.sleep(_POLL_S)

    async def leader_of(self, fleet: str) -> Node:
        """The node that leads the fleet's log, once some node leads each of its streams."""
        log, *beside = stream_names(fleet)
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                led = {stream: node for node in self.nodes for stream in await _led_by(node)}
                if log in led and all(stream in led for stream in beside):
                    return led[log]
                await asyncio.sleep(_POLL_S)

    async def make_streams(self, fleet: str) -> None:
        async with connect(self.target, System().clock) as connection:
            assert await ensure_streams(connection, fleet, replicas=3) == 3

    async def _is_ready(self) -> bool:
        for node in self.nodes:
            assert node.is_running, (node.folder / "output").read_text()
        health = [await node.ask("healthz") for node in self.nodes]
        if [each.get("status") for each in health] != ["ok"] * 3:
            return False
        for node in self.nodes:
            # Each node has its own view; only the leader's tells who follows.
            meta = (await node.ask("jsz")).get("meta_cluster", {})
            if meta.get("leader") == node.name:
                return [peer["current"] for peer in meta["replicas"]] == [True, True]
        return False


async def _led_by(node: Node) -> list[str]:
    """The streams that a node itself says it leads; others may not know yet of a leader's end."""
    if not node.is_running:
        return []
    said = await node.ask("jsz?accounts=true&streams=true")
    return [
        each["name"]
        for account in said.get("account_details", ())
        for each in account.get("stream_detail") or ()
        if each.get("cluster", {}).get("leader") == node.name
    ]


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Three servers that are ready; killed at the end, with nothing left of them but their folders."""
    binary = await find_binary(Settings(data=folder))
    taken: list[int] = []
    while len(taken) < 3 * len(NODES):
        port = free_port(System().entropy)
        taken += [] if port in taken else [port]
    ports = iter(taken)
    nodes = [Node(name, folder / name, (next(ports), next(ports), next(ports))) for name in NODES]
    cluster = Cluster(binary, nodes)
    try:
        cluster.start()
        await cluster.wait_ready()
        yield cluster
    finally:
        await cluster.stop()


def _get(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            found = json.load(answer)
    except (OSError, ValueError):
        return {}
    assert isinstance(found, dict)
    return found
