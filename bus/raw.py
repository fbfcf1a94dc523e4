"""What plain nats-py does with the same messages, for benchmarks to compare with. Not used by anything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from fleetlog.bus.embedded.runtime import Target
from fleetlog.schemas.subjects import guard, stream_names

RawClient = Client
"""A plain nats-py client."""

_PULL = msgspec.json.encode({"batch": 1000, "expires": 30_000_000_000})


@asynccontextmanager
async def raw_client(target: Target) -> AsyncIterator[RawClient]:
    """A nats-py client as its documentation makes one."""
    client = await nats.connect(target.url, user=target.user, password=target.password)
    try:
        yield client
    finally:
        await client.close()


def headers_of(fleet: str, task_id: str) -> dict[str, str]:
    """The headers of a first append to a task."""
    return {
        "Nats-Expected-Last-Subject-Sequence": "0",
        "Nats-Expected-Last-Subject-Sequence-Subject": guard(fleet, "task", task_id),
    }


async def publish_pipelined(
    client: RawClient, fleet: str, ids: list[str], data: bytes, *, in_flight_max: int = 4000
) -> float:
    """Publishes one first event for each id, as fast as nats-py's public API can; answers the seconds.

    One reply inbox with one callback, which is several times as fast as its JetStream publish.
    """
    inbox = client.new_inbox()
    slots = asyncio.Semaphore(in_flight_max)
    done = asyncio.Event()
    answered = 0

    async def on_answer(_: Msg) -> None:
        nonlocal answered
        answered += 1
        slots.release()
        if answered == len(ids):
            done.set()

    subscription = await client.subscribe(f"{inbox}.*", cb=on_answer)
    started = time.perf_counter()
    for number, task_id in enumerate(ids):
        await slots.acquire()
        await client.publish(
            f"fleetlog.{fleet}.task.{task_id}.default.normal.queued",
            data,
            reply=f"{inbox}.{number}",
            headers=headers_of(fleet, task_id),
        )
    await done.wait()
    elapsed_s = time.perf_counter() - started
    await subscription.unsubscribe()
    return elapsed_s


async def publish_one(client: RawClient, fleet: str, task_id: str, data: bytes) -> float:
    """One request and its answer, with nothing else going on; answers the seconds."""
    started = time.perf_counter()
    await client.request(
        f"fleetlog.{fleet}.task.{task_id}.default.normal.queued",
        data,
        timeout=10,
        headers=headers_of(fleet, task_id),
    )
    return time.perf_counter() - started


async def read_by_callback(client: RawClient, fleet: str, count: int) -> float:
    """Reads the first `count` messages of the log by nats-py's fastest way; answers the seconds."""
    stream = stream_names(fleet)[0]
    name = "raw_reader"
    config = {
        "name": name,
        "ack_policy": "none",
        "deliver_policy": "all",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 60_000_000_000,
    }
    create = msgspec.json.encode({"stream_name": stream, "config": config, "action": ""})
    await client.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", create, timeout=10)
    inbox = client.new_inbox()
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
    done = asyncio.Event()
    seen = 0

    async def on_message(message: Msg) -> None:
        nonlocal seen
        if message.headers and "Status" in message.headers:
            return
        seen += 1
        if seen % 1000 == 0:
            await client.publish(pull, _PULL, reply=inbox)
        if seen == count:
            done.set()

    subscription = await client.subscribe(
        inbox, cb=on_message, pending_msgs_limit=-1, pending_bytes_limit=-1
    )
    started = time.perf_counter()
    for _ in range(2):
        await client.publish(pull, _PULL, reply=inbox)
    await done.wait()
    seconds = time.perf_counter() - started
    # The next one by this name would go on where this one ended.
    await client.request(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b"", timeout=10)
    await subscription.unsubscribe()
    return seconds
