"""Checked submits on a real log: the client, many at once, and the synchronous face."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from fleetlog import InvalidInput, call, connect
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.errors import HandlerUnknown
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.log import entry
from fleetlog.schemas.events import AgentStarted
from fleetlog.schemas.subjects import Subject

SCHEMA = {
    "type": "object",
    "properties": {"host": {"type": "string"}},
    "required": ["host"],
    "additionalProperties": False,
}


async def start_agent(client: Client, agent_id: str, *handlers: str) -> None:
    event = AgentStarted(
        id=f"e-{agent_id}",
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        host="h1",
        pid=1,
        version="0.1.0",
        queues=("default",),
        workers=1,
        concurrency=1,
        handlers={name: msgspec.Raw(msgspec.json.encode(SCHEMA)) for name in handlers},
    )
    subject = Subject(client.fleet.name, "agent", agent_id, "started")
    await client.fleet.log.append(entry(subject, 0, event))


async def test_checked_submits_write_only_what_a_handler_takes(
    server: EmbeddedServer, fleet: str
) -> None:
    async with open_fleet(server.target, fleet) as opened:
        client = Client(opened)
        await client.submit(call("anything", a=1), is_checked=True)
        assert client.handlers.is_empty
        await start_agent(client, "a1", "measure")
        await start_agent(client, "a2", "check_disk")
        fresh = Client(opened)
        many = [call(name, host=f"h{n}") for n in range(50) for name in ("check_disk", "measure")]
        assert len(await fresh.submit_many(many, is_checked=True)) == 100
        end = await opened.log.end()
        with pytest.raises(HandlerUnknown, match="did you mean check_disk"):
            await fresh.submit(call("chek_disk", host="cube"), is_checked=True)
        with pytest.raises(InvalidInput, match="host must be a string, not 5"):
            await fresh.submit_many([call("measure", host=5)], is_checked=True)
        assert await opened.log.end() == end
        assert (await fresh.submit(call("chek_disk", host="cube"))).seq == end + 1


async def test_same_key_stays_the_same_task_when_its_handler_has_changed(
    server: EmbeddedServer, fleet: str
) -> None:
    async with open_fleet(server.target, fleet) as opened:
        client = Client(opened)
        spec = call("check_disk", host=5)
        first = await client.submit(spec, key="disk", is_checked=True)
        await start_agent(client, "a1", "check_disk")
        again = await Client(opened).submit(spec, key="disk", is_checked=True)
        assert (again.task_id, again.is_duplicate) == (first.task_id, True)


async def test_synchronous_client_checks_too(server: EmbeddedServer, fleet: str) -> None:
    async with open_fleet(server.target, fleet) as opened:
        await start_agent(Client(opened), "a1", "check_disk")

    def submit() -> None:
        with connect(fleet=fleet, target=server.target) as client:
            client.submit(call("check_disk", host="cube"), is_checked=True)
            client.submit_many([call("check_disk", host="cube")], is_checked=True)
            with pytest.raises(InvalidInput, match="host must be a string, but is missing"):
                client.submit(call("check_disk"), is_checked=True)

    await asyncio.to_thread(submit)
