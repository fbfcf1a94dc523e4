"""What a person mistypes: the message names it and says what to write, and nothing reaches the log."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from support.command_line import CommandLine

ADD = ("submit", "add", '{"a": 1}')
LARGE = b'{"a": 1, "x": "%s"}' % (b"y" * (9 * 1024 * 1024))
DEEP = b'{"a": %s%s}' % (b"[" * 200, b"]" * 200)


def log_of(cli: CommandLine) -> list[Any]:
    found: list[Any] = cli("log", "tail", "--after", "0", "--type", "task.queued", "--json").value
    return found


@pytest.mark.parametrize(
    ("args", "stdin", "code", "message"),
    [
        (("submit", "ad", '{"a": 1}'), b"", 1, "did you mean add? Submit it all the same with"),
        (("submit", "add", '{"a": 1,}'), b"", 2, "line 1, column 9, at '}'"),
        (("submit", "add", '{"a":\n x}'), b"", 2, "line 2, column 2, at 'x}'"),
        (("submit", "add", "[1]"), b"", 2, "must be one JSON object of names and values, such as"),
        (("submit", "add", "-"), b"", 2, "at the end"),
        (("submit", "add", "-"), b'{"a": "\xff"}', 2, "on stdin must be UTF-8 text"),
        (("submit", "add", "-"), LARGE, 2, "put them into a file or a store, and give its name"),
        (("submit", "add", "-"), DEEP, 2, "must not nest deeper than 100 levels"),
        (("submit", "", "{}", "--unchecked"), b"", 2, "handler: Expected `str` of length >= 1"),
        ((*ADD, "--queue", "a b"), b"", 2, "queue 'a b' is not valid: use 1 to 128 characters out"),
        ((*ADD, "--priority", "urgent"), b"", 2, "is not one of high, normal, low"),
        ((*ADD, "--key", ""), b"", 2, "a key must have 1 to 1024 characters, this has 0"),
        (
            (*ADD, "--key", "k" * 1025),
            b"",
            2,
            "a key must have 1 to 1024 characters, this has 1025",
        ),
        ((*ADD, "--key", "\udcff"), b"", 2, "a key must be valid Unicode text"),
        ((*ADD, "--label", "team"), b"", 2, "label 'team' is not NAME=VALUE, such as team=search"),
        ((*ADD, "--timeout", "5"), b"", 2, "timeout '5' is not a duration: write a number with ms"),
        ((*ADD, "--delay", "11000d"), b"", 2, "delay '11000d' is longer than ten years"),
        ((*ADD, "--expires", "0s"), b"", 2, "expires '0s' leaves no time: give a longer one"),
        ((*ADD, "--max-attempts", "0"), b"", 2, "--max-attempts"),
        ((*ADD, "--wait-timeout", "1s"), b"", 2, "--wait-timeout goes with --wait: give both"),
        (("task", "show", "a b"), b"", 2, "task id 'a b' is not valid: use 1 to 128 characters"),
        (("task", "show", "nope"), b"", 1, "`fleetlog task list` shows what there is"),
        (("task", "output", "nope"), b"", 1, "`fleetlog task list` shows what there is"),
        (("task", "cancel", "nope"), b"", 1, "`fleetlog task list` shows what there is"),
        (("--fleet", "a b", *ADD), b"", 2, "fleet 'a b' is not valid: use 1 to 128 characters"),
        (
            ("--url", "nats://127.0.0.1:1", *ADD),
            b"",
            3,
            "start one with `fleetlog up`, or give the",
        ),
    ],
)
def test_bad_input_is_named_and_writes_nothing(
    cli: CommandLine, args: tuple[str, ...], stdin: bytes, code: int, message: str
) -> None:
    before = log_of(cli)
    ran = cli.run(*args, stdin=stdin)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert log_of(cli) == before


def test_a_task_that_nobody_started_in_time_says_so(cli: CommandLine) -> None:
    ran = cli.run(*ADD, "--queue", "nobody", "--expires", "50ms", "--wait")
    assert ran.code == 1
    assert "its time ran out before it could run (expires): give it longer" in ran.err


def test_an_interrupted_wait_says_how_to_go_on(cli: CommandLine) -> None:
    ran = cli.run(*ADD, "--queue", "nobody", "--wait", "--wait-timeout", "100ms")
    assert ran.code == 4
    task_id = ran.err.split()[1]
    assert f"`fleetlog task cancel {task_id}`" in ran.err
    cli("task", "cancel", task_id)


def test_no_arguments_show_the_help(cli: CommandLine) -> None:
    bare = subprocess.run(cli.argv(), capture_output=True, env=cli.env(), timeout=60, check=False)
    assert bare.returncode == 2
    assert b"Begin with `fleetlog up`" in bare.stdout + bare.stderr
