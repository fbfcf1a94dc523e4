"""`fleetlog task`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.command_line import CommandLine


@pytest.fixture
def held(cli: CommandLine, fleet: str) -> str:
    """A task that waits for its time, with a label of its own."""
    args = ("submit", "add", '{"a": 1}', "--delay", "1h", "--label", f"test={fleet}")
    return cli(*args).out.strip()


def test_show_json_of_a_completed_task(cli: CommandLine) -> None:
    task_id = cli("submit", "add", '{"a": 1}', "--wait", "--json").value["task_id"]
    shown = cli("task", "show", task_id, "--json").value
    assert shown["task_id"] == task_id
    assert (shown["state"], shown["queue"], shown["priority"]) == ("completed", "default", "normal")
    assert (shown["result"], shown["error"], shown["waits_for"]) == (2, None, None)
    assert (shown["barrier_id"], shown["parent_id"]) == (None, None)
    [attempt] = shown["attempts"]
    assert (attempt["attempt"], attempt["outcome"]) == (1, "completed")
    types = [event["type"] for event in shown["events"]]
    assert types == ["task.queued", "task.claimed", "task.completed"]
    assert all(event["seq"] and event["occurred_at"] for event in shown["events"])
    assert attempt["fence"] == shown["events"][1]["seq"]


def test_show_names_every_attempt(cli: CommandLine) -> None:
    task_id = cli("submit", "flaky", "--wait", "--json").value["task_id"]
    attempts = cli("task", "show", task_id, "--json").value["attempts"]
    assert [(row["attempt"], row["outcome"], row["error_class"]) for row in attempts] == [
        (1, "retried", "error"),
        (2, "completed", None),
    ]
    assert "not yet" in attempts[0]["error"]
    text = cli("task", "show", task_id).out
    assert "attempt 1  retried after" in text
    assert "task.retried" in text


def test_show_of_a_failed_task_has_its_error(cli: CommandLine) -> None:
    task_id = cli.run("submit", "boom", "--wait", "--json").value["task_id"]
    shown = cli("task", "show", task_id, "--json").value
    assert shown["state"] == "failed"
    assert shown["error_class"] == "permanent"
    assert "boom" in shown["error"]
    assert "(permanent)" in cli("task", "show", task_id).out


def test_show_names_what_a_task_waits_for(cli: CommandLine, held: str, fleet: str) -> None:
    shown = cli("task", "show", held, "--json").value
    assert shown["state"] == "held"
    assert shown["waits_for"].startswith("time: may be queued at ")
    queued = cli("submit", "add", '{"a": 1}', "--queue", fleet).out.strip()
    shown = cli("task", "show", queued, "--json").value
    assert shown["waits_for"] == f"an agent with a free slot for queue {fleet}"
    assert f"waits for  {shown['waits_for']}" in cli("task", "show", queued).out


def test_list_filters_by_state_queue_handler_and_label(
    cli: CommandLine, held: str, fleet: str
) -> None:
    label = ("--label", f"test={fleet}")
    rows = cli("task", "list", *label, "--json").value
    assert [row["task_id"] for row in rows] == [held]
    assert rows[0]["labels"] == {"test": fleet}
    narrow = ("--state", "held", "--state", "queued", "--queue", "default", "--handler", "add")
    assert cli("task", "list", *label, *narrow, "--json").value == rows
    for other in (("--state", "queued"), ("--queue", "other"), ("--handler", "it's")):
        assert cli("task", "list", *label, *other, "--json").value == []
    ran = cli("task", "list", *label)
    assert ran.out.splitlines()[0].startswith("task_id")
    assert held in ran.out
    assert ran.err.startswith("as of seq ")


def test_list_is_newest_first_and_limited(cli: CommandLine, fleet: str) -> None:
    ids = [
        cli("submit", "add", '{"a": 1}', "--label", f"test={fleet}").out.strip() for _ in range(3)
    ]
    rows = cli("task", "list", "--label", f"test={fleet}", "--limit", "2", "--json").value
    assert [row["task_id"] for row in rows] == ids[:0:-1]


def test_list_of_nothing_says_so(cli: CommandLine, fleet: str) -> None:
    ran = cli("task", "list", "--queue", fleet)
    assert ran.out == ""
    assert "no such tasks" in ran.err


def test_list_is_drawn_on_a_terminal(cli: CommandLine, held: str, fleet: str) -> None:
    ran = cli.on_terminal("task", "list", "--label", f"test={fleet}")
    assert held in ran.out
    assert "─" in ran.out


def test_output_keeps_streams_apart(cli: CommandLine) -> None:
    args = ("run", "--wait", "--json", "--", "sh", "-c", "echo out; echo err >&2")
    task_id = cli(*args).value["task_id"]
    ran = cli("task", "output", task_id)
    assert (ran.out, ran.err) == ("out\n", "err\n")


def test_output_of_one_attempt(cli: CommandLine) -> None:
    task_id = cli("submit", "flaky", "--wait", "--json").value["task_id"]
    assert cli("task", "output", task_id).out == "attempt 1\nattempt 2\n"
    assert cli("task", "output", task_id, "--attempt", "2").out == "attempt 2\n"
    assert "no output" in cli("task", "output", task_id, "--attempt", "3").err
    assert cli("task", "output", task_id, "--follow", "--attempt", "1").out == "attempt 1\n"


def test_cancel_of_a_held_task_is_done_at_once(cli: CommandLine, held: str) -> None:
    rows = cli("task", "cancel", held, "--reason", "no need", "--json").value
    assert rows == [
        {
            "task_id": held,
            "state": "cancelled",
            "result": None,
            "error": "no need",
            "attempts": 0,
        }
    ]
    event = cli("task", "show", held, "--json").value["events"][-1]
    assert event["type"] == "task.cancelled"
    assert event["reason"] == "no need"
    assert event["actor"]


def test_cancel_waits_until_nothing_runs(cli: CommandLine, tmp_path: Path) -> None:
    task_id = cli("submit", "until", f'{{"path": "{tmp_path / "never"}"}}').out.strip()
    with cli.start("task", "output", "--follow", task_id) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"waiting\n"
        assert cli("task", "cancel", task_id, "--wait").out == f"task {task_id} is cancelled\n"
        assert following.wait(20) == 0
    shown = cli("task", "show", task_id, "--json").value
    assert [event["type"] for event in shown["events"]][-2:] == [
        "task.cancel_requested",
        "task.cancelled",
    ]


def test_cancel_goes_on_after_one_that_is_refused(cli: CommandLine, held: str) -> None:
    done = cli("submit", "quiet", "--wait", "--json").value["task_id"]
    ran = cli.run("task", "cancel", "none-such", done, held, held)
    assert ran.code == 1
    assert "there is no task none-such" in ran.err
    assert f"task {done} is completed already" in ran.err
    assert ran.out == f"task {held} is cancelled\n"


@pytest.mark.parametrize("command", ["show", "output", "cancel"])
def test_unknown_task_is_exit_code_1(cli: CommandLine, command: str) -> None:
    ran = cli.run("task", command, "none-such")
    assert ran.code == 1
    assert "there is no task none-such" in ran.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["list", "--state", "done"], "state 'done' is not one of held, queued"),
        (["list", "--state", "absent"], "is not one of held"),
        (["list", "--queue", "a b"], "queue 'a b' is not valid"),
        (["list", "--label", "x"], "label 'x' is not NAME=VALUE"),
        (["list", "--limit", "0"], "--limit"),
        (["show", "a.b"], "task id 'a.b' is not valid"),
        (["output", "a b"], "task id 'a b' is not valid"),
        (["cancel", "ok", "a>"], "task id 'a>' is not valid"),
        (["cancel"], "name tasks by their ids, or choose them"),
        (["shwo", "x"], "Did you mean 'show'"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_exit_code_2(cli: CommandLine, args: list[str], says: str) -> None:
    ran = cli.run("task", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_show_says_where_large_arguments_and_results_are_and_wait_prints_them(
    cli: CommandLine,
) -> None:
    name = "x" * 100_000
    waited = cli("submit", "greet", "-", "--wait", "--json", stdin=f'{{"name": "{name}"}}'.encode())
    assert waited.value["result"] == f"hello {name}"
    task_id = waited.value["task_id"]
    shown = cli("task", "show", task_id, "--json").value
    assert (shown["args"], shown["result"]) == (None, None)
    assert shown["args_ref"]["size"] == len(name) + len('{"name": ""}')
    assert shown["result_ref"]["size"] == len(name) + len('"hello "')
    text = cli("task", "show", task_id).out
    assert (
        f"stored: {shown['args_ref']['size']} bytes, sha256 {shown['args_ref']['sha256']}" in text
    )
    assert f"stored: {shown['result_ref']['size']} bytes, sha256" in text
    assert name not in text


@pytest.fixture
def leaving(cli: CommandLine, tmp_path: Path) -> str:
    """A task that left two files in its first attempt and one of them anew in its second."""
    code = (
        "import os, sys; attempt = os.environ['FLEETLOG_ATTEMPT'];"
        "open('report.txt', 'w').write('report ' + attempt); open('once', 'wb').write(bytes(5));"
        'print(\'{"type":"artifact","path":"report.txt"}\');'
        'attempt == "1" and print(\'{"type":"artifact","path":"once"}\');'
        "sys.exit(attempt == '1')"
    )
    args = ("run", "--cwd", str(tmp_path), "--wait", "--json", "--", sys.executable, "-c", code)
    return str(cli(*args).value["task_id"])


def test_artifacts_are_listed(cli: CommandLine, leaving: str) -> None:
    listed = cli("task", "artifact", leaving, "--json").value
    assert [(row["attempt"], row["name"], row["size"]) for row in listed] == [
        (1, "report.txt", 8),
        (1, "once", 5),
        (2, "report.txt", 8),
    ]
    assert cli("task", "artifact", leaving, "--attempt", "2", "--json").value == listed[2:]
    assert "text/plain" in cli("task", "artifact", leaving).out
    assert "artifacts  report.txt, once: " in cli("task", "show", leaving).out


def test_an_artifact_is_fetched(cli: CommandLine, leaving: str, tmp_path: Path) -> None:
    assert cli("task", "artifact", leaving, "report.txt").out == "report 2"
    assert cli("task", "artifact", leaving, "report.txt", "--attempt", "1").out == "report 1"
    out = tmp_path / "fetched"
    out.write_text("old")
    value = cli("task", "artifact", leaving, "once", "--out", str(out), "--json").value
    assert (value["attempt"], value["name"], value["out"]) == (1, "once", str(out))
    assert out.read_bytes() == bytes(5)
    assert not list(tmp_path.glob(".fetched*"))


def test_what_cannot_be_fetched_is_refused_with_what_there_is(
    cli: CommandLine, leaving: str, tmp_path: Path
) -> None:
    ran = cli.run("task", "artifact", leaving, "nothing")
    assert (ran.code, ran.out) == (1, "")
    assert "no artifact 'nothing'; it has report.txt, once" in ran.err
    ran = cli.run("task", "artifact", leaving, "once", "--out", str(tmp_path / "no" / "folder"))
    assert ran.code == 2
    assert "cannot be written" in ran.err
    assert cli.run("task", "artifact", leaving, "--out", "x").code == 2
    bare = cli("submit", "quiet", "--wait", "--json").value["task_id"]
    assert cli("task", "artifact", bare, "--json").value == []
    assert "no artifacts" in cli("task", "artifact", bare).err
