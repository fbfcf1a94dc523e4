"""`fleetlog map`: a task for each item."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from select import select
from typing import Any

import pytest
from support.command_line import CommandLine


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text('{"a": 1}\n\n  {"a": 2, "b": 5}  \n{"a": 3}')
    return path


def end_of(cli: CommandLine) -> int:
    seq: int = cli("log", "tail", "--count", "1", "--json").value[-1]["seq"]
    return seq


def test_ids_are_on_stdout_in_order(cli: CommandLine, items: Path) -> None:
    ran = cli("map", "add", "--items", str(items), "--label", "team=search", "--max-attempts", "7")
    specs = [
        cli("task", "show", task_id, "--json").value["events"][0]["spec"]
        for task_id in ran.out.splitlines()
    ]
    assert [spec["args"] for spec in specs] == [{"a": 1}, {"a": 2, "b": 5}, {"a": 3}]
    assert {spec["max_attempts"] for spec in specs} == {7}
    [labels] = {json.dumps(spec["labels"]) for spec in specs}
    assert json.loads(labels)["team"] == "search"
    assert f"map={json.loads(labels)['map']}" in ran.err
    assert "3 tasks are in the log: from" in ran.err
    question = ran.err.partition('fleetlog sql "')[2].partition('"')[0]
    rows = cli("sql", question, "--fresh", "--json").value
    assert sum(row["count_star()"] for row in rows) == 3


def test_json_without_waiting_names_all(cli: CommandLine, items: Path) -> None:
    value = cli("map", "add", "--items", str(items), "--json").value
    assert (value["barrier_id"], value["submitted"], value["duplicates"]) == (None, 3, 0)
    assert len(value["task_ids"]) == 3


def test_wait_prints_results_in_the_order_of_the_items(cli: CommandLine, items: Path) -> None:
    ran = cli("map", "add", "--items", str(items), "--wait")
    assert ran.out == "2\n7\n4\n"
    assert ran.err == "3 items: 3 completed\n"


def test_wait_json_has_the_shape_that_scripts_rely_on(cli: CommandLine, items: Path) -> None:
    value = cli("map", "add", "--items", str(items), "--wait", "--json").value
    children = value.pop("children")
    assert value == {
        "barrier_id": None,
        "state": "completed",
        "succeeded": 3,
        "failed": 0,
        "continuation": None,
    }
    assert [child.pop("task_id") != "" for child in children] == [True] * 3
    assert children == [
        {"state": "completed", "result": result, "error": None, "attempts": 1}
        for result in (2, 7, 4)
    ]


def test_results_too_large_for_an_event_are_fetched(
    cli: CommandLine, tmp_path: Path, fleet: str
) -> None:
    names = ["x" * 100_000, "short"]
    path = tmp_path / "items"
    path.write_text("".join(json.dumps({"name": name}) + "\n" for name in names))
    args = ("map", "greet", "--items", str(path), "--key-prefix", fleet, "--wait")
    for _ in ("as they come", "as they were before"):
        children = cli(*args, "--json").value["children"]
        assert [child["result"] for child in children] == [f"hello {name}" for name in names]
    assert cli(*args).out == "".join(f'"hello {name}"\n' for name in names)


def test_one_failure_is_exit_code_1(cli: CommandLine) -> None:
    lines = b'{"a": 1}\n{"a": "x"}\n{"a": 2}\n'
    ran = cli.run("map", "add", "--items", "-", "--unchecked", "--wait", stdin=lines)
    assert (ran.code, ran.out) == (1, "2\nnull\n3\n")
    assert "item 2, task" in ran.err
    assert "3 items: 2 completed, 1 failed" in ran.err
    ran = cli.run("map", "add", "--items", "-", "--unchecked", "--wait", "--json", stdin=lines)
    assert (ran.code, ran.value["state"]) == (1, "failed")
    assert (ran.value["succeeded"], ran.value["failed"]) == (2, 1)
    assert [child["state"] for child in ran.value["children"]] == [
        *("completed", "failed", "completed")
    ]


def test_any_json_value_becomes_the_argument_that_is_named(cli: CommandLine) -> None:
    args = ("map", "add", "--items", "-", "--arg", "a", "--wait")
    assert cli(*args, stdin=b"10\n20\n").out == "11\n21\n"
    args = ("map", "greet", "--items", "-", "--arg", "name", "--wait")
    assert cli(*args, stdin=b'"cube"\n"a b"').out == '"hello cube"\n"hello a b"\n'


@pytest.mark.parametrize("keyed", [("--key-prefix", "p"), ("--key-field", "a")], ids=" ".join)
def test_the_same_map_again_submits_nothing_twice(
    cli: CommandLine, fleet: str, items: Path, keyed: tuple[str, ...]
) -> None:
    keys = ("--key-prefix", f"{fleet}-{keyed[1]}", *keyed) if "field" in keyed[0] else ()
    keys = keys or (keyed[0], f"{fleet}-{keyed[1]}")
    args = ("map", "add", "--items", str(items), "--wait", "--json", *keys)
    first = cli(*args).value
    end = end_of(cli)
    assert cli(*args).value == first
    assert end_of(cli) == end
    told = cli(*args[:4], "--json", *keys).value
    assert (told["submitted"], told["duplicates"]) == (3, 3)


def test_a_known_task_of_another_queue_is_waited_for(
    cli: CommandLine, fleet: str, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    arguments = json.dumps({"path": str(flag)})
    cli("submit", "until", arguments, "--key", f"{fleet}-1", "--priority", "low")
    args = ("map", "until", "--items", "-", "--key-prefix", fleet, "--queue", f"q{fleet}", "--wait")
    with cli.start(*args, stdin=subprocess.PIPE) as mapping:
        assert mapping.stdin is not None
        assert mapping.stdout is not None
        mapping.stdin.write(arguments.encode())
        mapping.stdin.close()
        flag.touch()
        assert mapping.stdout.read() == b'"seen"\n'
    assert mapping.returncode == 0


def test_two_items_of_one_key_are_one_task(cli: CommandLine, fleet: str) -> None:
    line = json.dumps({"name": fleet}).encode()
    args = ("map", "greet", "--items", "-", "--key-field", "name", "--wait")
    assert cli(*args, stdin=line + b"\n" + line).out == f'"hello {fleet}"\n' * 2
    other = cli.run("map", "quiet", "--items", "-", "--unchecked", *args[4:], stdin=line)
    assert other.code == 1
    assert "stdin, line 1: task" in other.err
    assert "exists with another payload" in other.err


def test_a_key_of_other_work_ends_a_map_and_what_came_before_is_said(
    cli: CommandLine, fleet: str
) -> None:
    args = ("map", "greet", "--items", "-", "--key-field", "name", "--key-prefix", fleet)
    names = [json.dumps({"name": f"n{number}"}) for number in range(5)]
    cli(*args, stdin="\n".join(names).encode())
    taken = names.copy()
    taken[3] = json.dumps({"name": "n3", "x": 1})
    ran = cli.run(*args, "--unchecked", stdin="\n".join(taken).encode())
    assert ran.code == 1
    assert "3 tasks are in the log, 3 of them from before" in ran.err
    assert "stdin, line 4: task" in ran.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a": 1}\n{"a": 2,}\n', "line 2, column 9: the item must be valid JSON"),
        (b'{"a": 1}\n\n[1]\n', "line 3: an item must be one JSON object"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2, byte 8: the item must be valid JSON"),
        (b'{"a": 1}\n{"a": "x"}\n', "line 2: the arguments do not fit handler add: a must be an"),
    ],
)
def test_a_bad_line_is_refused_before_anything_of_a_file_is_submitted(
    cli: CommandLine, tmp_path: Path, text: bytes, says: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text)
    end = end_of(cli)
    ran = cli.run("map", "add", "--items", str(path))
    assert (ran.code, ran.out) == (2, "")
    assert f"{path}, {says}" in ran.err
    assert end_of(cli) == end
    # From stdin it is met too late: what was submitted is said.
    ran = cli.run("map", "add", "--items", "-", stdin=text)
    assert ran.code == 2
    assert f"stdin, {says}" in ran.err
    assert f"1 task is in the log: from {ran.out.strip()} to" in ran.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--items", "/none/such"], "/none/such can't be read: No such file"),
        (["--items", "/"], "/ can't be read: Is a directory"),
        (["--items", "-", "--queue", "a b"], "queue 'a b' is not valid"),
        (["--items", "-", "--label", "map=1"], "the label `map` is given by"),
        (["--items", "-", "--wait-timeout", "1s"], "--wait"),
        (["--items", "-", "--key-field", "z"], "line 1: the item needs a 'z'"),
        (
            ["--items", "-", "--arg", "a", "--key-prefix", "x" * 2000],
            "line 1: a key must have 1 to 1024",
        ),
        ([], "--items"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_wrong_options_are_usage(cli: CommandLine, args: list[str], says: str) -> None:
    ran = cli.run("map", "add", *args, stdin=b'{"a": 1}\n')
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_unknown_handler_is_refused_with_near_names(cli: CommandLine, items: Path) -> None:
    ran = cli.run("map", "ad", "--items", str(items))
    assert (ran.code, ran.out) == (1, "")
    assert "did you mean add?" in ran.err


def test_no_items_are_no_error(cli: CommandLine) -> None:
    ran = cli("map", "add", "--items", "-", "--wait", "--json", stdin=b"\n\n")
    assert (ran.value["state"], ran.value["children"]) == ("completed", [])
    assert cli("map", "add", "--items", "/dev/null").out == ""


def test_wait_timeout_is_exit_code_4_and_tells_states(cli: CommandLine, fleet: str) -> None:
    args = ("map", "add", "--items", "-", "--queue", fleet, "--wait", "--wait-timeout", "100ms")
    ran = cli.run(*args, "--json", stdin=b'{"a": 1}')
    assert (ran.code, ran.value["state"]) == (4, "running")
    assert ran.value["children"][0]["state"] == "queued"
    assert "1 task is in the log" in ran.err
    cli("task", "cancel", ran.value["children"][0]["task_id"])


def test_interrupt_says_what_was_submitted(cli: CommandLine, fleet: str) -> None:
    args = ("map", "add", "--items", "-", "--queue", fleet, "--key-prefix", fleet, "--wait")
    with cli.start(*args, stdin=subprocess.PIPE) as mapping:
        assert mapping.stdin is not None
        mapping.stdin.write(b'{"a": 1}\n{"a": 2}\n')
        mapping.stdin.close()
        follow = ("log", "tail", "--follow", "--after", "0", "--type", "task.queued")
        ids = _until(cli, follow, fleet, 2)
        # It may still be on its way to the wait: asked until it has heard.
        while mapping.poll() is None:
            mapping.send_signal(signal.SIGINT)
            try:
                mapping.wait(15)
            except subprocess.TimeoutExpired:
                continue
        assert mapping.stderr is not None
        said = mapping.stderr.read().decode()
    assert mapping.returncode == 130
    assert "Traceback" not in said
    # The log may have them before the map has heard of it.
    assert f"in the log: from {ids[0]}" in said or "no task was confirmed yet" in said
    assert "labels['map'] = '" in said
    for task_id in ids:
        cli("task", "cancel", task_id)


def _until(cli: CommandLine, args: tuple[str, ...], queue: str, count: int) -> list[str]:
    found: list[str] = []
    with cli.start(*args, "--json") as following:
        assert following.stdout is not None
        while len(found) < count:
            event: dict[str, Any] = json.loads(following.stdout.readline())
            if event["spec"].get("queue") == queue:
                found.append(event["subject"].split(".")[3])
        following.terminate()
    return found


def test_items_of_a_pipe_are_submitted_as_they_come(cli: CommandLine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with cli.start("map", "greet", "--items", str(pipe), "--arg", "name") as mapping:
        assert mapping.stdout is not None
        with pipe.open("wb", buffering=0) as writing:
            # An id comes out while the pipe is still open, with a later line at the latest.
            while not select([mapping.stdout], [], [], 0.05)[0]:
                writing.write(b'"cube"\n')
            first = mapping.stdout.readline().decode().strip()
            assert cli("task", "show", first, "--json").value["task_id"] == first
        assert len(mapping.stdout.read().split()) >= 1
    assert mapping.returncode == 0


def test_progress_is_shown_on_a_terminal(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(str(number) for number in range(2000)))
    ran = cli.on_terminal("map", "add", "--items", str(path), "--arg", "a", "--wait")
    assert ran.code == 0
    assert "submitted 2000/2000  running" in ran.out
    assert " left" in ran.out
    assert "2000 items: 2000 completed" in ran.out
