"""`--requires`: who may run a task, and who says that nobody can."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support.command_line import CommandLine


@contextmanager
def agent(cli: CommandLine, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    with (cli.data / "agent.log").open("ab") as log:
        process = cli.start("agent", "--workers", "1", *args, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def waits_for(cli: CommandLine, task_id: str) -> str:
    return str(cli("task", "show", task_id, "--json").value["waits_for"])


def test_a_task_that_nobody_can_run_is_accepted_with_a_note_and_waits(
    cli: CommandLine, fleet: str
) -> None:
    submitted = cli.run("run", "--queue", fleet, "--requires", f"gpu={fleet}", "--", "true")
    assert submitted.code == 0
    assert f"an agent with gpu={fleet}; " in submitted.err
    task_id = submitted.out.strip()
    shown = cli("task", "show", task_id, "--json").value
    assert (shown["queue"], shown["requires"], shown["state"]) == (
        *(fleet, {"gpu": fleet}),
        "queued",
    )
    assert shown["waits_for"].startswith(f"an agent with gpu={fleet}; ")
    text = cli("task", "show", task_id).out
    assert f"requires   gpu={fleet}" in text
    # One that has the label, but serves another queue.
    with agent(cli, "--queue", f"{fleet}-other", "--label", f"gpu={fleet}"):
        cli("run", "--queue", f"{fleet}-other", "--wait", "--wait-timeout", "50s", "--", "true")
        assert f"that serves queue {fleet}; those that have it do not" in waits_for(cli, task_id)
    with agent(cli, "--queue", fleet, "--label", f"gpu={fleet}"):
        outcome = cli("task", "output", "--follow", task_id)
        assert outcome.code == 0
        assert cli("task", "show", task_id, "--json").value["state"] == "completed"


def test_a_task_that_an_agent_can_run_is_accepted_without_a_word(cli: CommandLine) -> None:
    [first, *_] = cli("agent", "list", "--json").value
    host = first["labels"]["host"]
    ran = cli.run(
        *("submit", "add", '{"a": 1}', "--requires", f"host={host}"),
        *("--requires", f"os={first['labels']['os']}", "--requires", "executor.claude=yes"),
        "--wait",
    )
    assert (ran.code, ran.out, ran.err) == (0, "2\n", "")


def test_map_requires_it_of_every_item_and_sql_says_so(cli: CommandLine, fleet: str) -> None:
    items = cli.data / f"{fleet}.jsonl"
    items.write_text("1\n2\n3\n")
    mapped = ("map", "add", "--items", str(items), "--arg", "a", "--queue", fleet)
    first = cli.run(*mapped, "--requires", "tpu=v9")
    assert first.code == 0
    assert "an agent with tpu=v9; " in first.err
    second = cli.run(*mapped, "--requires", "tpu=v9", "--policy", "settled", "--deadline", "10m")
    assert "an agent with tpu=v9; " in second.err
    cli("submit", "quiet", "--queue", fleet)
    rows = {row["queue"]: row for row in cli("queue", "list", "--json").value}
    assert (rows[fleet]["queued"], rows[fleet]["needs"]) == (7, {"tpu=v9": 6})
    assert not [name for name in rows if name.startswith(f"{fleet}-needs")]
    assert "6 tpu=v9" in cli("queue", "list").out
    derived = cli("log", "tail", "--type", "queue.derived").out
    assert f"of={fleet} requires=tpu=v9" in derived
    found = cli(
        *("sql", "--fresh", "--format", "json"),
        f"SELECT requires, count(*) AS n FROM tasks WHERE queue = '{fleet}' GROUP BY ALL ORDER BY n",
    ).value
    assert [row["n"] for row in found] == [1, 6]
    assert found[1]["requires"] == {"tpu": "v9"}
    checks = {check["name"]: check for check in json.loads(cli.run("doctor", "--json").out)}
    assert "that require tpu=v9" in checks["queues"]["found"]
    cli("task", "cancel", "--queue", fleet, "--yes")


def test_map_waits_for_tasks_that_require_something(cli: CommandLine, fleet: str) -> None:
    [first, *_] = cli("agent", "list", "--json").value
    items = cli.data / f"{fleet}.jsonl"
    items.write_text("1\n2\n3\n")
    required = ("--requires", f"host={first['labels']['host']}")
    plain = cli("map", "add", "--items", str(items), "--arg", "a", *required, "--wait")
    assert plain.out == "2\n3\n4\n"
    joined = cli(
        *("map", "add", "--items", str(items), "--arg", "a", *required, "--then", "outcomes"),
        "--wait",
    )
    assert json.loads(joined.out) == [["completed", n] for n in (2, 3, 4)]


def test_a_requirement_without_a_value_is_wrong_usage(cli: CommandLine) -> None:
    for wrong in ("gpu", "gpu=", "=yes"):
        assert cli.run("submit", "quiet", "--requires", wrong).code == 2


def test_an_affinity_is_shown_and_a_pause_holds_for_it(cli: CommandLine, fleet: str) -> None:
    keyed = ("run", "--queue", fleet, "--affinity", fleet)
    with agent(cli, "--queue", fleet, "--host", f"{fleet}-h"):
        cli(*keyed, "--wait", "--wait-timeout", "50s", "--", "true")
        cli("queue", "pause", fleet)
        task_id = cli(*keyed, "--affinity-wait", "10m", "--", "true").out.strip()
        assert any(
            cli("task", "show", task_id, "--json").value["state"] == "queued" for _ in range(100)
        )
        cli("queue", "resume", fleet)
        assert cli("task", "output", "--follow", task_id).code == 0
    late = cli(*keyed, "--", "true").out.strip()
    shown = cli("task", "show", late, "--json").value
    assert shown["affinity"] == fleet
    assert f"affinity   {fleet}" in cli("task", "show", late).out
    [row] = cli(
        *("sql", "--fresh", "--format", "json"),
        f"SELECT queue, affinity FROM tasks WHERE task_id = '{task_id}'",
    ).value
    assert row == {"queue": fleet, "affinity": fleet}
    cli("task", "cancel", late)


def test_a_wait_without_an_affinity_is_wrong_usage(cli: CommandLine) -> None:
    assert cli.run("submit", "quiet", "--affinity-wait", "5s").code == 2
    assert cli.run("submit", "quiet", "--affinity", "").code == 2
    assert cli.run("submit", "quiet", "--affinity", "a", "--affinity-wait", "0s").code == 2
