"""`fleetlog agent list` and `drain`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine


@contextmanager
def agent(cli: CommandLine, host: str, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent on a host of that name, which takes offers when the block begins; ended at its end."""
    with (cli.data / f"{host}.log").open("ab") as log:
        process = cli.start(
            "agent", "--workers", "1", "--host", host, *args, stdout=log, stderr=log
        )
    try:
        cli("run", "--queue", f"host-{host}", "--wait", "--wait-timeout", "50s", "--", "true")
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0


def on(cli: CommandLine, host: str) -> list[dict[str, Any]]:
    return [row for row in cli("agent", "list", "--json").value if row["host"] == host]


def events_of(cli: CommandLine, agent_id: str) -> list[dict[str, Any]]:
    which = f"agent_id = '{agent_id}' AND type LIKE 'agent.%'"
    sql = f"SELECT type, actor, reason FROM events WHERE {which} ORDER BY seq"
    rows: list[dict[str, Any]] = cli("sql", "--fresh", "--format", "json", sql).value
    return rows


def test_list_shows_what_an_agent_is_and_does(cli: CommandLine, fleet: str, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with agent(cli, fleet, "--queue", f"{fleet}-q"):
        wait = ("sh", "-c", f"echo runs; until [ -e {flag} ]; do sleep 0.02; done")
        task_id = cli("run", "--queue", f"{fleet}-q", "--", *wait).out.strip()
        with cli.start("task", "output", "--follow", task_id) as following:
            assert following.stdout is not None
            assert following.stdout.readline() == b"runs\n"
            while (seen := on(cli, fleet)[0])["busy"] == 0:
                pass  # until the next beat, within a second
            assert (seen["state"], seen["busy"], seen["slots"]) == ("running", 1, 1)
            assert seen["queues"] == [f"{fleet}-q", f"host-{fleet}"]
            assert seen["workers"][0]["task_id"] == task_id
            assert seen["version"]
            assert seen["heard_at"]
            [line] = [each for each in cli("agent", "list").out.splitlines() if fleet in each]
            assert "1/1" in line
            assert task_id in line
            flag.touch()


def test_drain_lets_what_runs_finish_and_takes_nothing_new(
    cli: CommandLine, fleet: str, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    with agent(cli, fleet) as process:
        [seen] = on(cli, fleet)
        wait = ("sh", "-c", f"echo runs; until [ -e {flag} ]; do sleep 0.02; done")
        running = cli("run", "--queue", f"host-{fleet}", "--", *wait).out.strip()
        with cli.start("task", "output", "--follow", running) as following:
            assert following.stdout is not None
            assert following.stdout.readline() == b"runs\n"
            [row] = cli("agent", "drain", fleet, "--reason", "new kernel", "--json").value
            assert row == {
                "agent_id": seen["agent_id"],
                "host": fleet,
                "state": "draining",
                "running": 1,
            }
            late = cli("run", "--queue", f"host-{fleet}", "--", "true").out.strip()
            assert "drains already, 1 running" in cli("agent", "drain", seen["agent_id"]).out
            slow = cli.run("agent", "drain", fleet, "--wait", "--wait-timeout", "300ms")
            assert slow.code == 4
            assert "still draining" in slow.err
            flag.touch()
        assert process.wait(60) == 0
    assert cli("task", "show", running, "--json").value["state"] == "completed"
    assert cli("task", "show", late, "--json").value["state"] == "queued"
    draining, stopped = events_of(cli, seen["agent_id"])[1:]
    assert (draining["type"], draining["reason"]) == ("agent.draining", "new kernel")
    assert draining["actor"]
    assert stopped["type"] == "agent.stopped"
    assert on(cli, fleet) == []


def test_drain_waits_until_it_has_stopped(cli: CommandLine, fleet: str) -> None:
    with agent(cli, fleet) as process:
        [seen] = on(cli, fleet)
        ran = cli("agent", "drain", fleet, "--wait", "--wait-timeout", "50s")
        assert ran.out.endswith(f"agent {seen['agent_id']} on {fleet} has stopped\n")
        assert on(cli, fleet) == []
        assert process.wait(60) == 0


def test_drain_with_restart_brings_it_back_in_the_same_process(
    cli: CommandLine, fleet: str
) -> None:
    with agent(cli, fleet) as process:
        [seen] = on(cli, fleet)
        args = ("agent", "drain", fleet, "--restart", "--wait", "--wait-timeout", "50s", "--json")
        [row] = cli(*args).value
        assert (row["agent_id"], row["state"]) == (seen["agent_id"], "stopped")
        [back] = on(cli, fleet)
        assert back["agent_id"] == row["new_agent_id"] != seen["agent_id"]
        cli("run", "--queue", f"host-{fleet}", "--wait", "--wait-timeout", "50s", "--", "true")
        pid = f"SELECT pid FROM agents WHERE host = '{fleet}'"
        pids = cli("sql", "--fresh", "--format", "json", pid).value
        assert [each["pid"] for each in pids] == [process.pid] * 2


def test_an_agent_that_up_keeps_comes_back_too(cli: CommandLine) -> None:
    [seen] = [row for row in cli("agent", "list", "--json").value if row["state"] == "running"]
    args = ("agent", "drain", seen["agent_id"], "--restart", "--wait", "--wait-timeout", "50s")
    [row] = cli(*args, "--json").value
    assert row["new_agent_id"] != seen["agent_id"]
    cli("run", "--wait", "--wait-timeout", "50s", "--", "true")


def test_whom_nobody_knows_is_refused(cli: CommandLine) -> None:
    ran = cli.run("agent", "drain", "none-such")
    assert ran.code == 1
    assert "no agent has the id or host none-such" in ran.err


@pytest.mark.parametrize("args", [[], ["x", "--all"], ["x", "--wait-timeout", "1s"]], ids=" ".join)
def test_wrong_words_are_usage(nowhere: CommandLine, args: list[str]) -> None:
    assert nowhere.run("agent", "drain", *args).code == 2


def test_all_of_many_is_asked_for(cli: CommandLine, fleet: str) -> None:
    with agent(cli, fleet):
        ran = cli.run("agent", "drain", "--all")
        assert ran.code == 2
        assert "would drain 2 agents" in ran.err
        assert {row["state"] for row in cli("agent", "list", "--json").value} == {"running"}


def test_a_strained_agent_takes_nothing_and_is_shown(cli: CommandLine, fleet: str) -> None:
    args = ("--workers", "1", "--host", fleet, "--disk-floor", "9000T")
    with (cli.data / f"{fleet}.log").open("ab") as log:
        process = cli.start("agent", *args, stdout=log, stderr=log)
    try:
        while not [row for row in on(cli, fleet) if row["state"] == "strained"]:
            assert process.poll() is None  # until its first beat
        [seen] = on(cli, fleet)
        [strain] = seen["strains"]
        assert (strain["resource"], strain["floor"]) == ("disk", 9000 * 1024**4)
        assert "is short of disk (" in cli("agent", "list").err
        assert "takes nothing new: short of disk" in cli("status").out
        task_id = cli("run", "--queue", f"host-{fleet}", "--", "true").out.strip()
        doctor = {check["name"]: check for check in cli.run("doctor", "--json").value}
        assert doctor["agents"]["level"] == "warning"
        assert "take nothing new" in doctor["agents"]["found"]
        sql = f"SELECT state, strains FROM agents WHERE host = '{fleet}'"
        [row] = cli("sql", "--fresh", "--format", "json", sql).value
        assert (row["state"], row["strains"][0]["resource"]) == ("strained", "disk")
        assert cli("task", "show", task_id, "--json").value["state"] == "queued"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_task_that_takes_too_much_memory_has_crashed_with_a_clear_error(
    cli: CommandLine, fleet: str
) -> None:
    code = "import time; kept = b'x' * (500 * 1024 * 1024); time.sleep(60)"
    with agent(cli, fleet, "--memory-limit", "300M"):
        args = ("run", "--queue", f"host-{fleet}", "--max-attempts", "1", "--wait")
        ran = cli.run(*args, "--wait-timeout", "50s", "--", sys.executable, "-c", code)
        assert ran.code == 1
        assert "(crash)" in ran.err
        assert "--memory-limit" in ran.err


@pytest.mark.parametrize("command", ["agent", "up"])
@pytest.mark.parametrize(
    ("workers", "reserve", "says"),
    [
        ("2", "2", "leaves no slot for other tasks: the agent has 2 (workers times concurrency)"),
        ("1-4", "4", "so say at most 3"),
        ("2", "-1", "'--reserve-high'"),
        ("2", "some", "'--reserve-high'"),
    ],
)
def test_a_reserve_without_sense_is_wrong_usage(
    nowhere: CommandLine, command: str, workers: str, reserve: str, says: str
) -> None:
    ran = nowhere.run(command, "--workers", workers, "--reserve-high", reserve)
    assert ran.code == 2
    assert says in " ".join(ran.err.split())


def test_a_reserve_is_shown(cli: CommandLine, fleet: str) -> None:
    with agent(cli, fleet, "--workers", "2", "--reserve-high", "1"):
        [seen] = on(cli, fleet)
        assert (seen["slots"], seen["reserve_high"]) == (2, 1)
        assert " 1 reserved for high, queues" in cli("status").out
        sql = f"SELECT reserve_high FROM agents WHERE host = '{fleet}'"
        assert cli("sql", "--fresh", "--format", "json", sql).value == [{"reserve_high": 1}]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--disk-floor", "lots"), "is not a size, such as 512M"),
        (("--memory-limit", "0"), "leave it out for no limit"),
        (("--memory-floor", "1X"), "is not a size"),
    ],
)
def test_sizes_are_checked(nowhere: CommandLine, args: tuple[str, ...], says: str) -> None:
    ran = nowhere.run("agent", *args)
    assert ran.code == 2
    assert says in ran.err
