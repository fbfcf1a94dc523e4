"""What goes wrong outside of fleetlog: what is said and refused, and that it goes on by itself afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.command_line import HANDLERS, CommandLine, Ran, address
from support.servers import fill, make_limited, plain_server, small_disk

from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.jetstream.connection import connect
from fleetlog.bus.settings import ENVIRONMENT
from fleetlog.bus.system import SystemClock

MIB = 1024 * 1024
ROLES = {
    "coordinator": ("coordinator",),
    "projector": ("projector",),
    "agent": ("agent", "--workers", "2", "--app", "shown_handlers:agent"),
}


class Process:
    """A command that runs, and what it has said so far."""

    def __init__(self, cli: CommandLine, name: str, *args: str, cwd: Path) -> None:
        self.out, self.err = cwd / f"{name}.out", cwd / f"{name}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = cli.start(
                *args, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd
            )

    async def said(self, text: str, *, count: int = 1) -> None:
        """Returns once stderr has it."""
        async with asyncio.timeout(60):
            while self.err.read_text().count(text) < count:
                assert self.process.poll() is None, self.err.read_text()
                await asyncio.sleep(0.02)

    async def ended(self) -> Ran:
        code = await asyncio.to_thread(self.process.wait, 60)
        return Ran(code, self.out.read_text(), self.err.read_text())

    async def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                await asyncio.to_thread(self.process.wait, 60)
            finally:
                self.process.kill()
                await asyncio.to_thread(self.process.wait)


@contextmanager
def handlers(folder: Path) -> Iterator[Path]:
    (folder / "shown_handlers.py").write_text(HANDLERS)
    yield folder


@asynccontextmanager
async def roles(cli: CommandLine, folder: Path) -> AsyncIterator[dict[str, Process]]:
    """A whole fleet, each role a process."""
    with handlers(folder):
        started = {name: Process(cli, name, *args, cwd=folder) for name, args in ROLES.items()}
        try:
            ready = await do(cli, "status", "--wait", "60s")
            assert ready.code == 0, ready.err
            yield started
        finally:
            for process in reversed(started.values()):
                await process.stop()


async def do(cli: CommandLine, *args: str, stdin: bytes = b"") -> Ran:
    return await asyncio.to_thread(lambda: cli.run(*args, stdin=stdin))


def line_of(url: str, fleet: str, folder: Path) -> CommandLine:
    environ = {ENVIRONMENT["url"]: url, ENVIRONMENT["fleet"]: fleet}
    return CommandLine(folder / "data", **environ)


async def checks_of(cli: CommandLine) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in (await do(cli, "doctor", "--json")).value}


async def running_task(cli: CommandLine, flag: Path) -> str:
    """A task that runs until `flag` is there."""
    task_id = (await do(cli, "submit", "until", json.dumps({"path": str(flag)}))).out.strip()
    async with asyncio.timeout(30):
        while (await do(cli, "task", "show", task_id, "--json")).value["state"] != "claimed":
            pass
    return task_id


async def outcome_of(cli: CommandLine, task_id: str) -> dict[str, Any]:
    """Of a task, once it has one."""
    async with asyncio.timeout(60):
        while True:
            shown: dict[str, Any] = (await do(cli, "task", "show", task_id, "--json")).value
            if shown["state"] not in ("held", "queued", "claimed", "waiting"):
                return shown


async def test_a_full_log_refuses_submits_and_takes_the_outcome_of_what_runs(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    async with connect(server.target, SystemClock()) as connection:
        await make_limited(connection, fleet, max_bytes=256 * 1024)
    cli = line_of(address(server.target), fleet, tmp_path)
    flag = tmp_path / "flag"
    async with roles(cli, tmp_path), open_fleet(server.target, fleet) as opened:
        task_id = await running_task(cli, flag)
        while not (usage := await opened.room.usage()).is_full_for_submits:
            await opened.link.request(
                f"fleetlog.{fleet}.agent.a{usage.subject_count}.stopped", "x" * 4000
            )
        end = await opened.log.end()
        refused = await do(cli, "submit", "add", '{"a": 1}')
        assert refused.code == 1
        assert "the rest is for what the tasks that are there still do" in refused.err
        assert "nats stream edit" in refused.err
        assert await opened.log.end() == end
        assert (await checks_of(cli))["log size"]["level"] == "error"
        flag.touch()
        assert (await outcome_of(cli, task_id))["result"] == "seen"


async def test_however_fast_tasks_are_submitted_the_last_tenth_of_the_log_is_left(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    async with connect(server.target, SystemClock()) as connection:
        await make_limited(connection, fleet, max_bytes=MIB)
    cli = line_of(address(server.target), fleet, tmp_path)
    lines = b"".join(b'{"a": %d}\n' % number for number in range(5000))
    refused = await do(cli, "map", "add", "--items", "-", "--unchecked", stdin=lines)
    assert refused.code == 1
    assert "the rest is for what the tasks that are there still do" in refused.err
    async with open_fleet(server.target, fleet) as opened:
        usage = await opened.room.usage()
        assert usage.is_full_for_submits
        assert usage.used_bytes < 0.92 * MIB
        stored = [each.subject async for page in opened.log.read() for each in page]
    told = refused.out.split()
    assert sum(".task." in subject for subject in stored) == len(told)
    assert f"{len(told)} tasks are in the log: from {told[0]} to {told[-1]}" in refused.err


async def test_at_a_log_without_any_room_everyone_waits_and_goes_on_once_there_is_some(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    """Someone else has filled it: not even an agent's own events are taken."""
    async with connect(server.target, SystemClock()) as connection:
        config = await make_limited(connection, fleet, max_bytes=256 * 1024)
        cli = line_of(address(server.target), fleet, tmp_path)
        flag = tmp_path / "flag"
        async with roles(cli, tmp_path) as role:
            task_id = await running_task(cli, flag)
            size, number = 4000, 0
            while size:
                number += 1
                subject = f"fleetlog.{fleet}.agent.a{number}.stopped"
                answer = json.loads((await connection.client.request(subject, b"x" * size)).data)
                size = size // 2 if "error" in answer else size
            [agent] = (await do(cli, "status", "--json")).value["agents"]
            idle = next(each for each in agent["workers"] if each["state"] == "idle")
            os.kill(idle["pid"], signal.SIGKILL)
            flag.touch()
            advice = f"`nats stream edit {config['name']} --max-bytes`"
            await role["agent"].said(advice, count=2)
            assert role["agent"].process.poll() is None
            refused = await do(cli, "submit", "add", '{"a": 1}')
            assert (refused.code, advice in refused.err) == (1, True), refused.err
            await connection.request(
                f"$JS.API.STREAM.UPDATE.{config['name']}", config | {"max_bytes": MIB}
            )
            assert (await outcome_of(cli, task_id))["result"] == "seen"
            again = await do(cli, "submit", "add", '{"a": 4}', "--wait")
            assert (again.code, again.out) == (0, "5\n"), again.err
            exited = await do(
                *(cli, "sql", "--fresh", "--json"),
                "SELECT count(*) AS n FROM events WHERE type = 'worker.exited'",
            )
            assert exited.value == [{"n": 1}]
            assert all(process.process.poll() is None for process in role.values())


async def test_a_full_disk_refuses_submits_and_is_no_trouble_once_there_is_room(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "small", 32) as disk, handlers(tmp_path):
        cli = CommandLine(disk / "data")
        up = Process(cli, "up", "up", *ROLES["agent"][1:], cwd=tmp_path)
        try:
            assert (await do(cli, "status", "--wait", "60s")).code == 0
            first, second = tmp_path / "first", tmp_path / "second"
            near, over = await running_task(cli, first), await running_task(cli, second)
            filler = fill(disk, free_bytes=2 * MIB)
            await refuses_submits(cli)
            first.touch()
            assert (await outcome_of(cli, near))["result"] == "seen"
            fill(disk)
            await up.said("is full: nothing can be recorded until you make room on it")
            await refuses_submits(cli)
            second.touch()
            filler.unlink()
            await up.said("nats-server runs again")
            done = await outcome_of(cli, over)
            assert (done["state"], done["result"]) == ("completed", "seen")
            again = await do(cli, "submit", "add", '{"a": 4}', "--wait")
            assert (again.code, again.out) == (0, "5\n"), again.err
            assert (await do(cli, "status", "--wait", "60s")).code == 0
            counted = await do(cli, "sql", "--fresh", "--json", "SELECT count(*) AS n FROM tasks")
            assert counted.value == [{"n": 3}]
        finally:
            await up.stop()
        said = up.err.read_text()
        assert "Traceback" not in said


async def test_a_projector_whose_own_disk_is_full_says_so_and_goes_on_where_it_was(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", 32) as disk:
        environ = {ENVIRONMENT["url"]: address(server.target), ENVIRONMENT["fleet"]: fleet}
        cli = CommandLine(disk / "data", **environ)
        projector = Process(cli, "projector", "projector", cwd=tmp_path)
        try:
            await do(cli, "submit", "add", "--unchecked")
            assert await count_of_tasks(cli) == 1
            filler = fill(disk)
            lines = b"{}\n" * 3000
            submitted = await do(cli, "map", "add", "--items", "-", "--unchecked", stdin=lines)
            assert submitted.code == 0, submitted.err
            ended = await projector.ended()
            assert ended.code == 1
            assert "No space left on device; make room on its disk" in ended.err
            assert "Traceback" not in ended.err
            filler.unlink()
            projector = Process(cli, "projector", "projector", cwd=tmp_path)
            assert await count_of_tasks(cli) == 3001
            assert "built anew" not in projector.err.read_text()
        finally:
            await projector.stop()


async def count_of_tasks(cli: CommandLine) -> int:
    sql = ("sql", "--fresh", "--json", "SELECT count(*) AS n FROM tasks")
    async with asyncio.timeout(60):
        while (counted := await do(cli, *sql)).code:
            pass  # the projector is not there yet
    return int(counted.value[0]["n"])


async def refuses_submits(cli: CommandLine) -> None:
    refused = await do(cli, "submit", "add", '{"a": 1}')
    assert refused.code == 1
    assert "Make room on it" in refused.err
    disk = (await checks_of(cli))["disk"]
    assert disk["level"] == "error"
    assert "no tasks are accepted" in disk["found"]


async def test_a_server_that_goes_away_is_waited_for_by_everybody(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    cli = line_of(address(fresh_server.target), fleet, tmp_path)
    flag = tmp_path / "flag"
    until = json.dumps({"path": str(flag)})
    script = f"until [ -e {flag} ]; do sleep 0.05; done; echo done"
    (tmp_path / "items").write_text(f"{until}\n")
    async with roles(cli, tmp_path) as started:
        followed = await running_task(cli, flag)
        waiting = {
            "submit": ("submit", "until", until, "--wait"),
            "run": ("run", "--wait", "--", "sh", "-c", script),
            "map": ("map", "until", "--items", str(tmp_path / "items"), "--wait"),
            "output": ("task", "output", "--follow", followed),
            "cancel": ("log", "tail", "--follow"),
        }
        commands = {name: Process(cli, name, *args, cwd=tmp_path) for name, args in waiting.items()}
        try:
            await all_submitted(cli, 4)
            fresh_server.kill()
            await fresh_server.wait()
            for process in (*started.values(), *commands.values()):
                await process.said(
                    "the connection to the log is gone; trying again until it is back"
                )
            await fresh_server.restart()
            for process in (*started.values(), *commands.values()):
                await process.said("connected to the log again")
            flag.touch()
            tail = commands.pop("cancel")
            ended = {name: await process.ended() for name, process in commands.items()}
            assert {name: ran.code for name, ran in ended.items()} == dict.fromkeys(ended, 0)
            assert (ended["submit"].out, ended["run"].out) == ("seen\n", "done\n")
            assert ended["map"].out == '"seen"\n'
            assert ended["output"].out == "waiting\nseen\n"
            late = await do(cli, "submit", "add", '{"a": 1}', "--delay", "100ms", "--wait")
            assert (late.code, late.out) == (0, "2\n")
            counted = "SELECT count(*) AS n FROM tasks WHERE state = 'completed'"
            assert (await do(cli, "sql", "--fresh", "--json", counted)).value == [{"n": 5}]
            await stop_all({"tail": tail})
            assert tail.out.read_text().count("task.completed") >= 4
        finally:
            await stop_all(commands)


async def all_submitted(cli: CommandLine, count: int) -> None:
    question = "SELECT count(*) AS n FROM tasks"
    async with asyncio.timeout(60):
        while (await do(cli, "sql", "--fresh", "--json", question)).value != [{"n": count}]:
            pass


async def stop_all(processes: dict[str, Process]) -> None:
    for process in processes.values():
        await process.stop()


async def test_a_server_that_hangs_counts_as_gone(
    fresh_server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    cli = line_of(address(fresh_server.target), fleet, tmp_path)
    waiting = Process(cli, "waiting", "submit", "add", "--unchecked", "--wait", cwd=tmp_path)
    coordinator = Process(cli, "coordinator", "coordinator", cwd=tmp_path)
    try:
        await coordinator.said("the log is read up to")
        async with asyncio.timeout(30):
            while not (await do(cli, "log", "tail", "--type", "task.queued", "--json")).value:
                pass
        os.kill(fresh_server.running.server_pid, signal.SIGSTOP)
        hung = await do(cli, "status")
        assert hung.code == 3
        assert "(no answer in time): start one with `fleetlog up`, or give the address" in hung.err
        for process in (waiting, coordinator):
            await process.said("the connection to the log is gone; trying again until it is back")
        os.kill(fresh_server.running.server_pid, signal.SIGCONT)
        for process in (waiting, coordinator):
            await process.said("connected to the log again")
    finally:
        os.kill(fresh_server.running.server_pid, signal.SIGCONT)
        await stop_all({"waiting": waiting, "coordinator": coordinator})


USERS = """
accounts {
  A { jetstream: enabled, users: [
    { user: all, password: p }
    { user: no-api, password: p, permissions: { publish: { deny: ["$JS.API.>"] } } }
    { user: no-inbox, password: p, permissions: { subscribe: { deny: ["_INBOX.>"] } } }
    { user: no-tasks, password: p, permissions: { publish: { deny: ["fleetlog.>"] } } }
    { user: no-consumers, password: p, permissions: { publish: { deny: ["$JS.API.CONSUMER.>"] } } }
    { user: no-beats, password: p, permissions: { publish: { deny: ["fleetlog-beats.>"] } } }
    { user: no-output, password: p, permissions: { publish: { deny: ["fleetlog-output.>"] } } }
    { user: no-acks, password: p, permissions: { publish: { deny: ["$JS.ACK.>"] } } }
    { user: no-objects, password: p, permissions: { publish: { deny: ["$O.>"] } } }
  ] }
  B { users: [ { user: no-jetstream, password: p } ] }
}
"""
SUBMIT = ("submit", "add", "--unchecked")


@pytest.mark.parametrize(
    ("user", "command", "message"),
    [
        ("nobody", SUBMIT, "refused the credentials: give right ones"),
        ("no-jetstream", SUBMIT, "Enable JetStream in its configuration"),
        ("no-api", SUBMIT, "no permission to publish to $JS.API.STREAM.INFO"),
        ("no-inbox", SUBMIT, "no permission to subscribe to _INBOX.>"),
        ("no-tasks", SUBMIT, "no permission to publish to fleetlog.main.task."),
        ("no-tasks", ("agent",), "no permission to publish to fleetlog.main.agent."),
        ("no-consumers", ("agent",), "no permission to publish to $JS.API.CONSUMER."),
        ("no-consumers", ("coordinator",), "no permission to publish to $JS.API.CONSUMER."),
        ("no-consumers", ("projector",), "no permission to publish to $JS.API.CONSUMER."),
    ],
)
async def test_a_missing_permission_is_named(
    tmp_path: Path, user: str, command: tuple[str, ...], message: str
) -> None:
    async with plain_server(tmp_path, USERS) as url:
        allowed = line_of(url.replace("//", "//all:p@"), "main", tmp_path)
        assert (await do(allowed, *SUBMIT)).code == 0
        ran = await do(line_of(url.replace("//", f"//{user}:p@"), "main", tmp_path), *command)
        assert ran.code == 2
        assert message in ran.err
        assert "credentials" in ran.err  # of another role: what to do
        assert "Traceback" not in ran.err
        count = (await do(allowed, "log", "tail", "--json", "--type", "task.queued")).out
        assert count.count("task.queued") == 1


@pytest.mark.parametrize(
    ("user", "denied"),
    [
        ("no-beats", "fleetlog-beats.main."),
        ("no-output", "fleetlog-output.main."),
        ("no-acks", "$js.ack."),
    ],
)
async def test_an_agent_that_may_not_say_all_names_that_and_records_outcomes(
    tmp_path: Path, user: str, denied: str
) -> None:
    async with plain_server(tmp_path, USERS) as url, restricted(tmp_path, url, user) as agent:
        allowed = line_of(url.replace("//", "//all:p@"), "main", tmp_path)
        submitted = await do(allowed, "submit", "greet", '{"name": "cube"}', "--unchecked")
        await agent.said(f'violation for publish to "{denied}')
        outcome = await outcome_of(allowed, submitted.out.strip())
        assert (outcome["state"], len(outcome["attempts"])) == ("completed", 1)
        assert agent.process.poll() is None


async def test_an_agent_that_may_not_store_objects_names_that_and_keeps_the_result(
    tmp_path: Path,
) -> None:
    async with (
        plain_server(tmp_path, USERS) as url,
        restricted(tmp_path, url, "no-objects") as agent,
    ):
        allowed = line_of(url.replace("//", "//all:p@"), "main", tmp_path)
        code = (
            'print(\'{"type": "result", "status": "ok", "output": "\' + \'x\' * 100_000 + \'"}\')'
        )
        submitted = await do(allowed, "run", "--unchecked", "--", sys.executable, "-c", code)
        await agent.said('violation for publish to "$o.')
        await agent.said("waits to be stored: the object store does not answer")
        shown = await do(allowed, "task", "show", submitted.out.strip(), "--json")
        assert shown.value["state"] == "claimed"
        agent.process.kill()  # else it would wait for the store as long as a drain may take


@asynccontextmanager
async def restricted(folder: Path, url: str, user: str) -> AsyncIterator[Process]:
    """An agent in the role of a user."""
    cli = line_of(url.replace("//", f"//{user}:p@"), "main", folder)
    with handlers(folder):
        agent = Process(cli, "agent", *ROLES["agent"], cwd=folder)
        try:
            yield agent
        finally:
            await agent.stop()
    assert "Traceback" not in agent.err.read_text()


async def test_a_credentials_file_that_cannot_be_used_is_named(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    cli = line_of(server.target.url, "main", tmp_path)
    ran = await do(cli, "--creds", str(tmp_path / "none.creds"), *SUBMIT)
    assert ran.code == 2
    assert "none.creds can't be read (No such file or directory): give another one" in ran.err
    if importlib.util.find_spec("nkeys") is None:
        (tmp_path / "some.creds").touch()
        ran = await do(cli, "--creds", str(tmp_path / "some.creds"), *SUBMIT)
        assert ran.code == 2
        assert (
            "needs the Python package nkeys: install it (pip install 'fleetlog[creds]')" in ran.err
        )


async def test_doctor_tells_a_missing_permission_from_a_server_that_is_gone(tmp_path: Path) -> None:
    async with plain_server(tmp_path, USERS) as url:
        allowed = line_of(url.replace("//", "//all:p@"), "main", tmp_path)
        assert (await do(allowed, *SUBMIT)).code == 0
        for user, name in (
            ("no-consumers", "fleet"),
            ("no-inbox", "streams"),
            ("no-jetstream", "streams"),
        ):
            ran = await do(
                line_of(url.replace("//", f"//{user}:p@"), "main", tmp_path), "doctor", "--json"
            )
            checks = {check["name"]: check for check in ran.value}
            assert (ran.code, checks["bus"]["level"], checks[name]["level"]) == (1, "ok", "error")


async def test_what_cannot_be_read_is_kept_and_counted_and_stops_nothing(
    server: EmbeddedServer, fleet: str, tmp_path: Path
) -> None:
    cli = line_of(address(server.target), fleet, tmp_path)
    queued = f"fleetlog.{fleet}.task.{{}}.default.normal.queued"
    unreadable = [
        (queued.format("u1"), b"no JSON \xff"),
        (queued.format("u2"), b'{"type":"task.invented","id":"e2","v":1}'),
        (queued.format("u3"), b'{"type":"task.queued","id":"e3","v":999}'),
        (f"fleetlog.{fleet}.agent.a1.started", b"{}"),
        (f"fleetlog.{fleet}.nonsense", b""),
    ]
    async with roles(cli, tmp_path) as started, open_fleet(server.target, fleet) as opened:
        for subject, data in unreadable:
            await opened.link.client.request(subject, data)
        await opened.link.client.publish(f"fleetlog-beats.{fleet}.a1", b"no beat")
        done = await do(cli, "submit", "add", '{"a": 4}', "--wait")
        assert (done.code, done.out) == (0, "5\n"), done.err
        printed = await do(cli, "submit", "greet", '{"name": "cube"}', "--key", "k", "--json")
        task_id = printed.value["task_id"]
        assert (await outcome_of(cli, task_id))["state"] == "completed"
        for attempt in ("1", "x"):
            subject = f"fleetlog-output.{fleet}.{task_id}.{attempt}"
            await opened.link.client.request(subject, b"no chunks")
        async with asyncio.timeout(30):  # output may come after the outcome
            while (ran := await do(cli, "task", "output", task_id)).out != "greeting cube\n":
                assert ran.code == 0, ran.err
        question = "SELECT subject, raw, problem FROM events WHERE problem IS NOT NULL ORDER BY seq"
        kept = (await do(cli, "sql", "--fresh", "--json", question)).value
        assert [row["subject"] for row in kept] == [subject for subject, _ in unreadable]
        assert kept[1]["raw"] == unreadable[1][1].decode()
        assert all(row["problem"] for row in kept)
        events = (await checks_of(cli))["events"]
        assert events["level"] == "warning"
        assert events["found"].startswith("5 can't be read")
        refused = await do(cli, "task", "cancel", "u1")
        assert refused.code == 1
        assert "upgrade" in refused.err
        assert (await do(cli, "task", "show", "u1")).code == 0
        await started["coordinator"].said("of task u3 can't be read by this version")
        [end] = (
            await do(
                *(cli, "sql", "--json"),
                f"SELECT subject, raw FROM events WHERE task_id = '{task_id}' AND type = 'task.completed'",
            )
        ).value
        again = json.loads(end["raw"]) | {"id": "again"}
        await opened.link.client.request(end["subject"], json.dumps(again).encode())
        assert (await do(cli, "sql", "--fresh", "SELECT 1")).code == 0
        rules = (await checks_of(cli))["rules"]
        assert rules["level"] == "error"
        assert rules["found"].startswith("1 events were not allowed by their task's state")
        assert all(role.process.poll() is None for role in started.values())


@asynccontextmanager
async def server_of_version(version: str) -> AsyncIterator[str]:
    """What says that it is a nats-server of some version, and nothing else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {
            "server_id": "X",
            "version": version,
            "proto": 1,
            "headers": True,
            "max_payload": MIB,
        }
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    serving = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with serving:
        yield f"nats://127.0.0.1:{serving.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("command", [SUBMIT, ("agent",), ("status",)], ids=lambda words: words[0])
async def test_a_server_that_is_too_old_is_refused(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    async with server_of_version("2.14.7") as url:
        ran = await do(line_of(url, "main", tmp_path), *command)
    assert ran.code == 2
    assert "nats-server 2.14.7, fleetlog needs 2.15 or newer: upgrade it" in ran.err


async def test_doctor_says_that_a_server_is_too_old(tmp_path: Path) -> None:
    async with server_of_version("2.14.7") as url:
        ran = await do(line_of(url, "main", tmp_path), "doctor", "--json")
    version = {check["name"]: check for check in ran.value}["version"]
    assert (ran.code, version["level"], version["found"]) == (1, "error", "nats-server 2.14.7")
    assert "upgrade it" in version["advice"]
