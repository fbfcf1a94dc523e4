"""`fleetlog run`: commands as tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import CommandLine


def test_wait_prints_what_the_command_printed(cli: CommandLine) -> None:
    ran = cli("run", "--wait", "--", "sh", "-c", "echo one; echo error >&2; printf two")
    assert ran.out == "one\ntwo"
    assert ran.err == "error\n"


def test_dashes_may_be_left_out(cli: CommandLine) -> None:
    assert cli("run", "--wait", "ls", "-d", "/").out == "/\n"


def test_failed_command_is_exit_code_1_with_its_output(cli: CommandLine) -> None:
    ran = cli.run("run", "--wait", "--", "sh", "-c", "echo one; echo error >&2; exit 65")
    assert ran.code == 1
    assert ran.out == "one\n"
    first, second = ran.err.splitlines()
    assert first == "error"
    assert "failed after 1 attempt (permanent): the command ended with code 65" in second


def test_wait_json_is_the_outcome(cli: CommandLine) -> None:
    outcome = cli("run", "--wait", "--json", "--", "echo", "hello").value
    assert outcome.pop("task_id")
    assert outcome == {"state": "completed", "result": "hello", "error": None, "attempts": 1}


def test_command_gets_stdin_environment_and_folder(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli(
        *("run", "--wait", "--stdin", '{"host": "cube"}', "--env", "LEVEL=a=b"),
        *("--cwd", str(tmp_path), "--", "sh", "-c", "cat; echo $LEVEL; pwd"),
    )
    document, level, folder = ran.out.splitlines()
    assert json.loads(document)["payload"] == {"host": "cube"}
    assert (level, folder) == ("a=b", str(tmp_path))


def test_payload_comes_from_stdin(cli: CommandLine) -> None:
    ran = cli("run", "--wait", "--stdin", "-", "--", "cat", stdin=b"[1, 2]")
    assert json.loads(ran.out)["payload"] == [1, 2]


def test_task_is_called_like_the_program(cli: CommandLine) -> None:
    task_id = cli("run", "--wait", "--json", "--", "/bin/echo", "a b").value["task_id"]
    shown = cli("task", "show", task_id, "--json").value
    assert shown["handler"] == "echo"
    assert shown["args"] == {"argv": ["/bin/echo", "a b"]}
    assert shown["events"][0]["spec"]["executor"] == "command"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "Missing argument"),
        (["--"], "Missing argument"),
        (["--env", "X", "true"], "variable 'X' is not NAME=VALUE"),
        (["--stdin", "{", "true"], "payload for stdin must be valid JSON"),
        (["--queue", "", "true"], "queue '' is not valid"),
        ([b"\xff".decode(errors="surrogateescape")], "UTF-8"),
    ],
    ids=str,
)
def test_wrong_input_is_exit_code_2(nowhere: CommandLine, args: list[str], says: str) -> None:
    ran = nowhere.run("run", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--prompt", "x"], "--prompt goes with --executor"),
        (["--model", "m", "--", "true"], "--model goes with --executor"),
        (["--executor", "claude"], "--executor claude needs --prompt"),
        (["--executor", "claude", "--", "look"], "--executor claude needs --prompt"),
        (["--executor", "claude", "--prompt", " "], "the prompt is empty"),
        (["--executor", "claude", "--prompt", "@/no/such/file"], "/no/such/file cannot be read"),
        (["--executor", "claude", "--prompt", "-"], "the prompt is empty"),
        (["--executor", "claude", "--prompt", "x", "--max-budget-usd", "0"], "above 0"),
        (["--executor", "claude", "--prompt", "x", "--stdin", "1"], "--stdin is for commands"),
        (["--executor", "python", "--prompt", "x"], "`fleetlog submit`"),
        (["--executor", "command"], "Missing argument"),
    ],
    ids=str,
)
def test_wrong_words_about_an_agent_cli_are_exit_code_2(
    nowhere: CommandLine, args: list[str], says: str
) -> None:
    ran = nowhere.run("run", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
    assert "Traceback" not in ran.err
