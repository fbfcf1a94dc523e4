"""Files that attempts leave behind, from a real worker into a real store and back."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.fleets import agent, coordinator

from fleetlog.bus.call import call
from fleetlog.bus.client import Client
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.schemas.specs import Backoff, TaskSpec


@pytest.fixture
async def client(server: EmbeddedServer, fleet: str) -> AsyncIterator[Client]:
    async with open_fleet(server.target, fleet) as opened:
        yield Client(opened)


def command(code: str, cwd: Path, **rules: object) -> TaskSpec:
    args = {"argv": [sys.executable, "-c", code], "cwd": str(cwd)}
    raw = msgspec.Raw(msgspec.json.encode(args))
    spec = TaskSpec(executor="command", handler="test", args=raw)
    return msgspec.structs.replace(spec, **rules)


def says(**line: object) -> str:
    return f"print({json.dumps(json.dumps({'type': 'artifact', **line}))}, flush=True)"


async def kept(client: Client, task_id: str) -> dict[tuple[int, str], bytes]:
    """The content by attempt and name."""
    return {
        (left.attempt, left.artifact.name): await client.fleet.objects.get(left.artifact.ref)
        for left in (await client.get(task_id)).artifacts
    }


async def output(client: Client, task_id: str) -> str:
    return "".join([chunk.text async for _, chunk in client.fleet.outputs.read(task_id)])


async def test_a_commands_files_are_kept_as_they_are_at_its_end(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    code = "\n".join(
        [
            "open('log.bin', 'wb').write(b'early')",
            says(path="log.bin"),
            says(path="log.bin", name="again", media_type="text/x-log"),
            "open('log.bin', 'wb').write(bytes(3_000_000))",
        ]
    )
    async with agent(server.target, fleet):
        task = await client.submit(command(code, tmp_path))
        assert (await task.result("20s")).state == "completed"
    assert await kept(client, task.task_id) == {
        (1, "log.bin"): bytes(3_000_000),
        (1, "again"): bytes(3_000_000),
    }
    [first, second] = (await client.get(task.task_id)).artifacts
    assert first.artifact.media_type == "application/octet-stream"
    assert second.artifact.media_type == "text/x-log"


async def test_a_file_outside_of_the_working_directory_is_not_kept_and_fails_nothing(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "secret").write_text("hush")
    (work / "link").symlink_to("../secret")
    (work / "mine").write_text("mine")
    code = "\n".join(says(path=path) for path in ("../secret", "link", "nowhere", "mine"))
    async with agent(server.target, fleet):
        task = await client.submit(command(code, work))
        assert (await task.result("20s")).state == "completed"
    assert await kept(client, task.task_id) == {(1, "mine"): b"mine"}
    said = await output(client, task.task_id)
    for name in ("secret", "link", "nowhere"):
        assert f"artifact {name!r} is not kept" in said


async def test_a_failed_and_a_stopped_attempt_leave_files_too(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    (tmp_path / "dump").write_text("why")
    failing = command(says(path="dump") + "\nraise SystemExit(65)", tmp_path)
    endless = command(
        says(path="dump") + "\nimport time; time.sleep(60)", tmp_path, timeout_ms=5000
    )
    async with agent(server.target, fleet, workers=2):
        tasks = [await client.submit(failing), await client.submit(endless, max_attempts=1)]
        outcomes = [await task.result("30s") for task in tasks]
    assert [outcome.error_class for outcome in outcomes] == ["permanent", "timeout"]
    for task in tasks:
        assert await kept(client, task.task_id) == {(1, "dump"): b"why"}


async def test_each_attempt_of_a_handler_keeps_its_own_files(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    spec = call("leave", folder=str(tmp_path), text="<p>", fails=True)
    spec = msgspec.structs.replace(spec, backoff=Backoff(first_ms=20, max_ms=20))
    async with agent(server.target, fleet), coordinator(server.target, fleet):
        task = await client.submit(spec)
        assert (await task.result("20s")).state == "completed"
    assert await kept(client, task.task_id) == {
        (number, name): b"<p>" for number in (1, 2) for name in ("report.html", "the same")
    }


async def test_a_plain_function_leaves_files_from_its_thread(
    server: EmbeddedServer, client: Client, fleet: str, tmp_path: Path
) -> None:
    async with agent(server.target, fleet):
        task = await client.submit(call("leave_from_thread", folder=str(tmp_path)))
        assert (await task.result("20s")).state == "completed"
    assert await kept(client, task.task_id) == {(1, "notes"): b"plain"}
    assert "artifact 'nowhere' is not kept" in await output(client, task.task_id)
