"""The simulated server against the real one: the same questions, the same answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from simulation.fleet import World
from simulation.link import connect

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.jetstream.connection import Connection
from fleetlog.bus.jetstream.connection import connect as connect_really
from fleetlog.bus.jetstream.streams import ensure_streams
from fleetlog.bus.system import SystemClock

S = 1_000_000_000
LOG = "FLEETLOG_{fleet}"


class Asker:
    """Asks a server in JetStream's own words, and writes down what it says."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self.connection = connection
        self.fleet = fleet
        self.stream = f"FLEETLOG_{fleet}"
        self.said: list[Any] = []
        self.inboxes: dict[str, str] = {}
        self.acks: list[str] = []

    def subject(self, task: str, verb: str = "queued") -> str:
        return f"fleetlog.{self.fleet}.task.{task}.default.normal.{verb}"

    def guard(self, task: str) -> str:
        return f"fleetlog.{self.fleet}.task.{task}.>"

    async def listen(self, name: str) -> str:
        """An inbox whose messages are written down under a name."""
        inbox = self.inboxes[name] = self.connection.client.new_inbox()

        def heard(subject: bytes, reply: bytes, header: bytes, data: bytes) -> None:
            status = header.split(b"\r\n", 1)[0].decode().removeprefix("NATS/1.0").strip()
            if status:
                self.said.append((name, "status", status))
                return
            lines = dict(line.split(": ") for line in header.decode().split("\r\n")[1:] if line)
            if "Nats-Sequence" in lines:
                wanted = ("Nats-Sequence", "Nats-Last-Sequence", "Nats-Subject")
                self.said.append((name, *(lines[each] for each in wanted), data))
                return
            place = reply.decode().split(".")
            self.acks.append(reply.decode())
            task = subject.decode().split(".")[3]
            # How often, which of the stream, which of the consumer, how many are left.
            self.said.append((name, task, *place[4:7], place[8], data))

        await self.connection.wire.listen(inbox, heard)
        return inbox

    async def api(self, name: str, request: Any = None) -> Any:
        data = b"" if request is None else json.dumps(request).encode()
        message = await self.connection.client.request(f"$JS.API.{name}", data, timeout=5)
        return json.loads(message.data)

    async def ask(self, what: str, name: str, request: Any = None) -> None:
        """Writes the answer's error down, or the parts of it that fleetlog reads."""
        answer = await self.api(name, request)
        if "error" in answer:
            error = answer["error"]
            self.said.append((what, error["code"], error["err_code"]))
            return
        found = answer.get("message", {})
        parts = {key: found[key] for key in ("seq", "data") if key in found}
        for key in ("num_pending", "num_ack_pending"):
            if key in answer:
                parts[key] = answer[key]
        for key in ("delivered", "ack_floor"):
            if key in answer:
                parts[key] = answer[key]["stream_seq"]
        if "state" in answer:
            parts["last_seq"] = answer["state"]["last_seq"]
        self.said.append((what, parts))

    async def append(self, what: str, task: str, expected: int, guard: str | None = None) -> None:
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(expected),
            "Nats-Expected-Last-Subject-Sequence-Subject": guard or self.guard(task),
        }
        await self.publish(what, self.subject(task), headers)

    async def publish(self, what: str, subject: str, headers: dict[str, str]) -> None:
        message = await self.connection.client.request(subject, b"x", timeout=5, headers=headers)
        answer = json.loads(message.data)
        error = answer.get("error")
        says = answer["seq"] if error is None else (error["code"], error["err_code"])
        self.said.append((what, says, answer.get("count")))

    async def batch(
        self, what: str, name: str, *members: tuple[str, int], left_out: int = 0
    ) -> None:
        for number, (task, expected) in enumerate(members, 1):
            headers = {
                "Nats-Expected-Last-Subject-Sequence": str(expected),
                "Nats-Expected-Last-Subject-Sequence-Subject": self.guard(task),
                "Nats-Batch-Id": name,
                "Nats-Batch-Sequence": str(number),
            }
            if number == len(members):
                await self.publish(what, self.subject(task), headers | {"Nats-Batch-Commit": "1"})
            elif number != left_out:
                await self.connection.publish(self.subject(task), b"x", headers=headers)

    def pull(self, consumer: str, inbox: str, **request: Any) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{consumer}"
        self.connection.wire.send(subject, json.dumps(request).encode(), reply=self.inboxes[inbox])

    async def create(self, name: str, first: int = 1, **config: Any) -> None:
        given = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "filter_subject": f"fleetlog.{self.fleet}.task.*.default.normal.queued",
            **config,
        }
        subject = f"CONSUMER.CREATE.{self.stream}.{name}.{given['filter_subject']}"
        request = {"stream_name": self.stream, "config": given, "action": ""}
        await self.ask(f"create {name}", subject, request)


async def checks(asker: Asker) -> None:
    """What an append is checked against."""
    await asker.append("first", "a", 0)
    await asker.append("first again", "a", 0)
    await asker.append("second", "a", 1)
    await asker.append("too far", "a", 9)
    await asker.append("another guard", "b", 2, asker.guard("a"))
    await asker.batch("batch", "b1", ("c", 0), ("d", 0))
    await asker.batch("one of it is late", "b2", ("e", 0), ("c", 0))
    await asker.batch("two of one thing", "b3", ("f", 0), ("f", 0))
    await asker.batch("a hole", "b4", ("g", 0), ("h", 0), ("i", 0), left_out=2)
    await asker.ask("end", f"STREAM.INFO.{asker.stream}")


async def questions(asker: Asker) -> None:
    """What can be asked about messages."""
    for task in ("a", "b", "a"):
        headers: dict[str, str] = {}
        await asker.publish("stored", asker.subject(task), headers)
    get = f"STREAM.MSG.GET.{asker.stream}"
    await asker.ask("by seq", get, {"seq": 2})
    await asker.ask("beyond", get, {"seq": 9})
    await asker.ask("last", get, {"last_by_subj": asker.guard("a")})
    await asker.ask("last of nobody", get, {"last_by_subj": asker.guard("z")})
    await asker.ask("next", get, {"seq": 2, "next_by_subj": asker.guard("a")})
    await asker.ask("next beyond", get, {"seq": 4, "next_by_subj": asker.guard("a")})
    await asker.ask("no stream", "STREAM.INFO.FLEETLOG_nowhere")
    await asker.ask("no consumer", f"CONSUMER.INFO.{asker.stream}.nobody")
    inbox = await asker.listen("direct")
    for which in (asker.guard("a"), asker.guard("z")):
        request = {"seq": 1, "batch": 10, "next_by_subj": which}
        asker.acks.clear()
        asker.connection.wire.send(
            f"$JS.API.DIRECT.GET.{asker.stream}", json.dumps(request).encode(), reply=inbox
        )
        await settle(asker)


async def deliveries(asker: Asker) -> None:
    """How a durable consumer hands out offers."""
    for task in "abcde":
        await asker.publish("stored", asker.subject(task), {})
    await asker.create(
        "offers", durable_name="offers", ack_policy="explicit", ack_wait=S, max_deliver=-1
    )
    await asker.listen("take")
    asker.pull("offers", "take", batch=2, no_wait=True)
    await settle(asker)
    await asker.ask("two out", f"CONSUMER.INFO.{asker.stream}.offers")
    first, second = asker.acks[-2:]
    asker.connection.wire.send(first, b"+ACK")
    asker.connection.wire.send(second, b'-NAK {"delay": %d}' % (S // 2))
    await settle(asker)
    await asker.ask("one back", f"CONSUMER.INFO.{asker.stream}.offers")
    asker.pull("offers", "take", batch=9, no_wait=True)
    await settle(asker)
    asker.pull("offers", "take", batch=1, no_wait=True)
    await settle(asker)
    await asker.listen("watch")
    asker.pull("offers", "watch", batch=1, expires=3 * S)
    # The one that went back comes first; those that nobody answers follow when their time is up.
    await asyncio.sleep(0.8)
    asker.said.append("after the delay")
    for ack in asker.acks[2:5]:
        asker.connection.wire.send(ack, b"+ACK")
    await settle(asker)
    asker.pull("offers", "watch", batch=1, expires=3 * S)
    await asyncio.sleep(1.4)
    asker.said.append("after the ack wait")
    asker.connection.wire.send(asker.acks[-1], b"+WPI")
    asker.pull("offers", "watch", batch=1, expires=S // 2)
    await asyncio.sleep(0.8)
    asker.said.append("nothing came in time")
    asker.connection.wire.send(asker.acks[-1], b"+ACK")
    await settle(asker)
    await asker.ask("all done", f"CONSUMER.INFO.{asker.stream}.offers")


async def readers(asker: Asker) -> None:
    """How a consumer without acks reads along."""
    for task in "ab":
        await asker.publish("stored", asker.subject(task), {})
    await asker.create("reader", 2, ack_policy="none", mem_storage=True)
    await asker.listen("read")
    asker.pull("reader", "read", batch=10, expires=2 * S, idle_heartbeat=S // 2)
    await settle(asker)
    await asker.connection.publish(asker.subject("c"), b"x")
    await settle(asker)
    asker.said.append("quiet")
    await asyncio.sleep(0.7)
    await asker.ask("gone", f"CONSUMER.DELETE.{asker.stream}.reader")
    await settle(asker)
    asker.pull("reader", "read", batch=10, expires=2 * S)
    await settle(asker)


async def nobody(asker: Asker) -> None:
    """Who asks where nobody is."""
    await asker.listen("answer")
    asker.connection.wire.send("nobody.there", b"", reply=asker.inboxes["answer"])
    await settle(asker)
    # A plain subscriber hears what the stream refuses.
    inbox = asker.connection.client.new_inbox()
    assert inbox

    def heard(subject: bytes, _reply: bytes, _header: bytes, data: bytes) -> None:
        asker.said.append(("plain", subject.decode().split(".")[3], data))

    await asker.connection.wire.listen(f"fleetlog.{asker.fleet}.task.>", heard)
    await asker.append("stored", "a", 0)
    await asker.append("refused", "a", 0)
    await settle(asker)


async def settle(asker: Asker) -> None:
    """Until nothing more is said."""
    await asyncio.sleep(0.15)


SCENES = (checks, questions, deliveries, readers, nobody)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_simulated_server_says_what_the_real_one_says(
    server: EmbeddedServer, fleet: str, scene: Callable[[Asker], Awaitable[None]]
) -> None:
    async with connect_really(server.target, SystemClock()) as connection:
        await ensure_streams(connection, fleet)
        real = Asker(connection, fleet)
        await scene(real)
    simulated = await asyncio.to_thread(simulate, fleet, scene)
    assert by_source(simulated) == by_source(real.said)


def by_source(said: list[Any]) -> dict[str, list[Any]]:
    """What came by one way is in order; of two ways either may be the faster."""
    found: dict[str, list[Any]] = {}
    for each in said:
        name, *rest = each if isinstance(each, tuple) else ("", each)
        found.setdefault(name, []).append(rest)
    return found


def simulate(fleet: str, scene: Callable[[Asker], Awaitable[None]]) -> list[Any]:
    world = World(1)
    said: list[Any] = []

    async def ask() -> None:
        node = world.node("asker")
        connection = connect(node.link, node.machine.clock, node.chance)

        async def live() -> None:
            await ensure_streams(connection, fleet)
            asker = Asker(connection, fleet)
            asker.said = said
            await scene(asker)

        await world.loop.spawn(node.process, live())

    world.run(ask())
    return said
