"""`fleetlog queue`: pausing, and who heeds it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.command_line import CommandLine


@contextmanager
def agent(cli: CommandLine, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent of its own for a test; drained at the end."""
    with (cli.data / "agent.log").open("ab") as log:
        process = cli.start("agent", "--workers", "1", *args, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def waits_for(cli: CommandLine, task_id: str) -> str:
    return str(cli("task", "show", task_id, "--json").value["waits_for"])


def test_a_paused_queues_tasks_wait_and_run_when_it_is_resumed(
    cli: CommandLine, fleet: str
) -> None:
    [paused] = cli("queue", "pause", fleet, "--reason", "an upgrade", "--json").value
    assert (paused["queue"], paused["is_paused"], paused["changed"]) == (fleet, True, True)
    assert paused["actor"]
    assert paused["reason"] == "an upgrade"
    task_id = cli("run", "--queue", fleet, "--", "true").out.strip()
    # One that starts later knows it too, and serves its other queue meanwhile.
    with agent(cli, "--queue", fleet, "--queue", f"{fleet}-open"):
        cli("run", "--queue", f"{fleet}-open", "--wait", "--wait-timeout", "50s", "--", "true")
        says = waits_for(cli, task_id)
        assert says.startswith(f"queue {fleet}, which is paused by {paused['actor']} at ")
        assert says.endswith(f"(an upgrade): `fleetlog queue resume {fleet}` ends it")
        assert cli("task", "show", task_id, "--json").value["attempts"] == []
        [resumed] = cli("queue", "resume", fleet, "--json").value
        assert (resumed["is_paused"], resumed["changed"]) == (False, True)
        cli("run", "--queue", fleet, "--wait", "--wait-timeout", "50s", "--", "true")
        assert cli("task", "show", task_id, "--json").value["state"] == "completed"


def test_a_running_agent_stops_taking_from_a_queue_and_what_runs_goes_on(
    cli: CommandLine, fleet: str, tmp_path: Path
) -> None:
    flag, other = tmp_path / "flag", f"{fleet}-open"
    wait = ("sh", "-c", f"echo runs; until [ -e {flag} ]; do sleep 0.02; done")
    with agent(cli, "--queue", fleet, "--queue", other):
        running = cli("run", "--queue", fleet, "--", *wait).out.strip()
        with cli.start("task", "output", "--follow", running) as following:
            assert following.stdout is not None
            assert following.stdout.readline() == b"runs\n"
            cli("queue", "pause", fleet)
            late = cli("run", "--queue", fleet, "--", "true").out.strip()
            flag.touch()
        # The worker is free now; what it takes is the other queue's, though it came later.
        cli("run", "--queue", other, "--wait", "--wait-timeout", "50s", "--", "true")
        assert cli("task", "show", running, "--json").value["state"] == "completed"
        assert cli("task", "show", late, "--json").value["state"] == "queued"
        cli("queue", "resume", fleet)
        outcome = cli("task", "output", "--follow", late)
        assert outcome.code == 0
        assert cli("task", "show", late, "--json").value["state"] == "completed"


def test_pausing_again_keeps_the_first_word(cli: CommandLine, fleet: str) -> None:
    assert f"`fleetlog queue resume {fleet}` ends it" in cli("queue", "pause", fleet).out
    [again] = cli("queue", "pause", fleet, "--reason", "another", "--json").value
    assert (again["changed"], again["reason"]) == (False, None)
    assert "already" in cli("queue", "pause", fleet).out
    assert cli("queue", "resume", fleet).out == f"queue {fleet} is resumed\n"
    assert cli("queue", "resume", fleet).out == f"queue {fleet} is not paused\n"
    counted = cli(
        "sql", "--fresh", "--format", "json", f"SELECT type FROM events WHERE queue = '{fleet}'"
    )
    assert [row["type"] for row in counted.value] == ["queue.paused", "queue.resumed"]


def test_pauses_are_shown_by_list_status_doctor_and_sql(cli: CommandLine, fleet: str) -> None:
    cli("queue", "pause", fleet, "--reason", "too hot")
    cli("submit", "quiet", "--queue", fleet)
    try:
        rows = {row["queue"]: row for row in cli("queue", "list", "--json").value}
        assert (rows[fleet]["is_paused"], rows[fleet]["reason"]) == (True, "too hot")
        assert (rows[fleet]["queued"], rows[fleet]["agents"]) == (1, 0)
        assert (rows["default"]["is_paused"], rows["default"]["agents"]) == (False, 1)
        text = cli("queue", "list").out
        assert "too hot" in text
        [seen] = [one for one in cli("status", "--json").value["paused"] if one["queue"] == fleet]
        assert seen["reason"] == "too hot"
        assert f"{fleet} is paused by" in cli("status").out
        checks = {check["name"]: check for check in json.loads(cli.run("doctor", "--json").out)}
        assert checks["pauses"]["level"] == "warning"
        assert fleet in checks["pauses"]["found"]
        told = cli(
            *("sql", "--fresh", "--format", "json"),
            f"SELECT is_paused, actor, reason FROM queues WHERE queue = '{fleet}'",
        ).value
        assert told == [{"is_paused": True, "actor": seen["actor"], "reason": "too hot"}]
    finally:
        cli("queue", "resume", fleet)


def test_a_name_that_no_queue_can_have_is_usage(cli: CommandLine) -> None:
    assert cli.run("queue", "pause", "a b").code == 2
