"""`fleetlog status`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from support.command_line import CommandLine, address

from fleetlog.bus.embedded.runtime import Target, read_running
from fleetlog.bus.embedded.server import EmbeddedServer
from fleetlog.bus.fleet import open_fleet
from fleetlog.bus.log import entry
from fleetlog.cli.overview import without_password
from fleetlog.schemas.events import AgentLost, AgentStarted, verb_of
from fleetlog.schemas.subjects import Subject


def test_status_json(cli: CommandLine, fleet: str) -> None:
    cli("submit", "quiet", "--queue", fleet, "--priority", "high")
    cli("sql", "SELECT 1", "--fresh")
    seen = cli("status", "--json").value
    running = read_running(cli.data)
    assert running is not None
    assert (seen["fleet"], seen["url"], seen["durability"]) == ("main", running.url, "always")
    assert (seen["is_ready"], seen["lack"]) == (True, None)
    [agent] = seen["agents"]
    assert agent["state"] == "running"
    assert agent["queues"][0] == "default"
    assert len(agent["workers"]) == 2
    assert seen["coordinator"]["coordinator_id"].startswith("c")
    assert seen["projector"]["seq"] + seen["projector"]["lag"] <= seen["log_end"]
    [depth] = [row for row in seen["queues"] if row["queue"] == fleet]
    assert (depth["priority"], depth["queued"], depth["claimed"]) == ("high", 1, 0)
    assert set(seen["last_minute"]) == {"completed", "failed", "cancelled", "expired"}


def test_status_names_what_runs(cli: CommandLine, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    task_id = cli("submit", "until", json.dumps({"path": str(flag)})).out.strip()
    with cli.start("task", "output", "--follow", task_id) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"waiting\n"
        text = ""
        while f": task {task_id}, attempt 1" not in text:  # until the next beat, within a second
            text = cli("status").out
        assert text.startswith("fleet 'main' at nats://127.0.0.1:")
        assert text.endswith("ready\n")
        flag.touch()


def test_wait_ends_at_once_when_all_is_there(cli: CommandLine) -> None:
    assert cli("status", "--wait", "10s").out.endswith("ready\n")


def test_wait_for_nothing_is_exit_code_4(nowhere: CommandLine) -> None:
    ran = nowhere.run("status", "--wait", "300ms")
    assert ran.code == 4
    assert "not ready within 300ms: no fleet runs on" in ran.err
    assert nowhere.run("status", "--wait", "soon").code == 2


async def test_status_without_agents_and_projector_says_so(
    nowhere: CommandLine, server: EmbeddedServer, fleet: str
) -> None:
    def run(*args: str) -> tuple[int, str, str]:
        ran = nowhere.run("status", "--url", address(server.target), "--fleet", fleet, *args)
        return ran.code, ran.out, ran.err

    code, out, _ = await asyncio.to_thread(run)
    assert code == 0
    assert "agents       none" in out
    assert "projector    none answers" in out
    assert "coordinator  none is active" in out
    assert "not ready: no agent runs" in out
    assert server.target.password not in out
    code, out, err = await asyncio.to_thread(run, "--json", "--wait", "500ms")
    assert code == 4
    seen = json.loads(out)
    assert (seen["agents"], seen["projector"], seen["queues"]) == ([], None, None)
    assert "no agent runs: start one with `fleetlog agent`" in err


def test_addresses_are_shown_without_passwords() -> None:
    target = Target(url="nats://a:b@one:1,nats://two:2", user=None)
    assert without_password(target.url) == "nats://one:1,nats://two:2"
    assert without_password("user:p@ss@host:1") == "host:1"


async def test_agent_of_which_no_beat_is_kept_is_listened_for(
    fresh_server: EmbeddedServer,
) -> None:
    cli = CommandLine(fresh_server.data)
    agent = cli.start("agent", "--workers", "1", stderr=subprocess.DEVNULL)
    try:
        # It serves: one whose server goes before that gives up, as there may be none.
        await asyncio.to_thread(cli, "run", "--wait", "--wait-timeout", "50s", "--", "true")
        os.kill(fresh_server.running.server_pid, signal.SIGKILL)
        await fresh_server.wait()
        await fresh_server.restart()
        seen = (await asyncio.to_thread(cli, "status", "--json")).value
        assert [one["state"] for one in seen["agents"]] == ["running"]
        assert seen["agents"][0]["heard_at"]
    finally:
        agent.terminate()
        assert await asyncio.to_thread(agent.wait, 30) == 0
        assert agent.stdout is not None
        agent.stdout.close()


async def test_an_agent_that_was_lost_a_while_ago_is_told(
    nowhere: CommandLine, server: EmbeddedServer, fleet: str
) -> None:
    async with open_fleet(server.target, fleet) as opened:
        stamp: dict[str, Any] = {"occurred_at": opened.log.now()}
        started = AgentStarted(
            id="e1", host="cube", pid=1, version="1", queues=(), workers=1, concurrency=1, **stamp
        )
        lost = AgentLost(id="e2", silent_ms=3_600, **stamp)
        seq = 0
        for event in (started, lost):
            subject = Subject(fleet, "agent", "a1", verb_of(event))
            seq = await opened.log.append(entry(subject, seq, event))
    args = ("status", "--url", address(server.target), "--fleet", fleet)
    ran = await asyncio.to_thread(nowhere.run, *args)
    assert "lost         a1 on cube at " in ran.out
    assert "silent for 3.6 s: what it ran was given back" in ran.out
