"""`fleetlog submit`, and what it shares with `run`."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from support.command_line import CommandLine


def test_submit_prints_the_id_alone(cli: CommandLine) -> None:
    ran = cli("submit", "add", '{"a": 1}')
    assert ran.err == ""
    assert cli("task", "show", ran.out.strip(), "--json").value["task_id"] == ran.out.strip()


def test_submit_json_names_id_sequence_and_duplicate(cli: CommandLine, fleet: str) -> None:
    first = cli("submit", "add", '{"a": 1}', "--key", fleet, "--json").value
    assert list(first) == ["task_id", "seq", "duplicate"]
    assert first["duplicate"] is False
    again = cli("submit", "add", '{ "a":1 }', "--key", fleet, "--priority", "low", "--json").value
    assert again == {**first, "duplicate": True}
    said = cli("submit", "add", '{"a": 1}', "--key", fleet)
    assert said.out.strip() == first["task_id"]
    assert f"submitted before, as event {first['seq']}" in said.err


def test_same_key_with_other_work_is_refused(cli: CommandLine, fleet: str) -> None:
    cli("submit", "add", '{"a": 1}', "--key", fleet)
    ran = cli.run("submit", "add", '{"a": 2}', "--key", fleet, "--json")
    assert ran.code == 1
    assert ran.out == ""
    assert "another payload" in ran.err
    assert "fleetlog task show" in ran.err


def test_options_reach_the_log(cli: CommandLine) -> None:
    task_id = cli(
        *("submit", "add", '{"a": 1}', "--queue", "gpu", "--priority", "high", "--delay", "1h"),
        *("--label", "team=search", "--label", "x=a=b", "--timeout", "none", "--expires", "2d"),
        *("--start-within", "90s", "--silence", "1m30s", "--max-attempts", "7"),
    ).out.strip()
    shown = cli("task", "show", task_id, "--json").value
    spec = shown["events"][0]["spec"]
    assert spec == {
        "handler": "add",
        "args": {"a": 1},
        "queue": "gpu",
        "priority": "high",
        "labels": {"team": "search", "x": "a=b"},
        "max_attempts": 7,
        "timeout_ms": None,
        "start_within_ms": 90_000,
        "silence_ms": 90_000,
        "expires_ms": 172_800_000,
        "delay_ms": 3_600_000,
    }
    cli("task", "cancel", task_id)


def test_wait_prints_the_result(cli: CommandLine) -> None:
    assert cli("submit", "add", '{"a": 1, "b": 2}', "--wait").out == "3\n"
    assert cli("submit", "greet", '{"name": "cube"}', "--wait").out == "hello cube\n"
    assert cli("submit", "quiet", "--wait").out == "null\n"


def test_wait_json_is_the_outcome(cli: CommandLine) -> None:
    outcome = cli("submit", "add", '{"a": 1}', "--wait", "--json").value
    assert outcome.pop("task_id")
    assert outcome == {"state": "completed", "result": 2, "error": None, "attempts": 1}


def test_arguments_come_from_stdin(cli: CommandLine) -> None:
    assert cli("submit", "add", "-", "--wait", stdin=b'{"a": 20}\n').out == "21\n"


def test_failed_task_is_exit_code_1(cli: CommandLine) -> None:
    ran = cli.run("submit", "boom", '{"text": "[bold]no"}', "--wait")
    assert ran.code == 1
    assert ran.out == ""
    assert "failed after 1 attempt (permanent)" in ran.err
    assert "[bold]no" in ran.err
    ran = cli.run("submit", "boom", "--wait", "--json")
    assert ran.code == 1
    assert ran.value["state"] == "failed"
    assert "boom" in ran.value["error"]


def test_wait_timeout_is_exit_code_4_and_the_task_goes_on(cli: CommandLine, fleet: str) -> None:
    args = ("submit", "add", '{"a": 1}', "--queue", fleet, "--wait", "--wait-timeout", "100ms")
    ran = cli.run(*args, "--json")
    assert ran.code == 4
    assert ran.value == {
        "task_id": ran.value["task_id"],
        "state": "queued",
        "result": None,
        "error": None,
        "attempts": 0,
    }
    assert f"fleetlog task cancel {ran.value['task_id']}" in ran.err
    cli("task", "cancel", ran.value["task_id"])


def test_interrupt_while_waiting_says_that_the_task_goes_on(
    cli: CommandLine, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    task_args = ("until", f'{{"path": "{flag}"}}')
    waiting = cli.start("submit", *task_args, "--key", str(flag), "--wait")
    task_id = cli("submit", *task_args, "--key", str(flag)).out.strip()
    with cli.start("task", "output", "--follow", task_id) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"waiting\n"
        with waiting:
            # It may still be on its way to the wait: asked until it has heard.
            while waiting.poll() is None:
                waiting.send_signal(signal.SIGINT)
                try:
                    waiting.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
            assert waiting.stderr is not None
            said = waiting.stderr.read().decode()
        flag.touch()
        assert following.stdout.read() == b"seen\n"
    assert waiting.returncode == 130
    assert "the task goes on" in said
    assert f"fleetlog task show {task_id}" in said
    assert "Traceback" not in said
    assert cli("submit", *task_args, "--key", str(flag), "--wait").out == "seen\n"


def test_progress_is_shown_on_a_terminal(cli: CommandLine) -> None:
    ran = cli.on_terminal("run", "--wait", "--", "sh", "-c", "echo [red]one; sleep 1; echo two")
    assert ran.code == 0
    assert "claimed  attempt 1" in ran.out
    assert "[red]one" in ran.out
    assert ran.out.rstrip().endswith("two")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (['{"a": 1, "b" 2}'], "line 1, column 14, at '2}'"),
        (['{"a":\n 1'], "line 2, column 3, at the end"),
        (["[1]"], "one JSON object"),
        (['"x"'], "one JSON object"),
        (["NaN"], "must be valid JSON"),
        (['{"a": NaN}'], "must be valid JSON"),
        (["[" * 3000], "nest"),
        (["--queue", "a.b"], "queue 'a.b' is not valid"),
        (["--priority", "urgent"], "'urgent' is not one of high, normal, low"),
        (["--label", "team"], "label 'team' is not NAME=VALUE"),
        (["--label", "=x"], "is not NAME=VALUE"),
        (["--label", "team="], "write team=VALUE"),
        (["--timeout", "5"], "timeout '5' is not a duration"),
        (["--silence", "soon"], "silence 'soon' is not a duration"),
        (["--timeout", "0s"], "timeout"),
        (["--expires", "20000d"], "longer than ten years"),
        (["--max-attempts", "0"], "--max-attempts"),
        (["--max-attempts", "x"], "--max-attempts"),
        (["--key", ""], "key"),
        (["--wait-timeout", "1s"], "--wait"),
        (["--wait", "--wait-timeout", "x"], "wait timeout 'x' is not a duration"),
        (["--fleet", "a b"], "fleet 'a b' is not valid"),
        (["{}", "more"], "more"),
    ],
    ids=" ".join,
)
def test_wrong_input_is_exit_code_2_and_says_what_is_allowed(
    nowhere: CommandLine, args: list[str], says: str
) -> None:
    ran = nowhere.run("submit", "add", *args)
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_input_that_is_no_text_is_exit_code_2(nowhere: CommandLine) -> None:
    ran = nowhere.run("submit", "add", "-", stdin=b"\xff")
    assert ran.code == 2
    assert "UTF-8" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "add"),
        ("run", "--", "true"),
        ("status",),
        ("sql", "FROM tasks"),
        ("task", "list"),
        ("task", "show", "x"),
        ("task", "output", "x"),
        ("task", "cancel", "x"),
        ("log", "tail"),
        ("agent",),
        ("coordinator",),
        ("projector",),
    ],
    ids=" ".join,
)
def test_no_bus_is_exit_code_3_and_says_how_to_start_one(
    nowhere: CommandLine, words: tuple[str, ...]
) -> None:
    ran = nowhere.run(*words)
    assert ran.code == 3, ran.err
    assert "fleetlog up" in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_address_without_a_server_is_exit_code_3(nowhere: CommandLine) -> None:
    ran = nowhere.run("submit", "add", "--url", "nats://127.0.0.1:1")
    assert ran.code == 3
    assert "no NATS server answers at nats://127.0.0.1:1" in ran.err


def test_verbose_shows_where_an_error_comes_from(nowhere: CommandLine) -> None:
    assert "Traceback" in nowhere.run("-v", "submit", "add", "{").err
    assert "Traceback" in nowhere.run("submit", "add", "{", "-v").err


def test_full_disk_is_one_line(cli: CommandLine) -> None:
    with Path("/dev/full").open("wb") as full:
        process = cli.start("submit", "add", '{"a": 1}', stdout=full)
    with process:
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert said == "Error: No space left on device\n"


def test_reader_that_went_away_is_no_error(cli: CommandLine) -> None:
    with cli.start("log", "tail", "--after", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_key_may_replace_what_has_not_started_or_insist_on_being_new(
    cli: CommandLine, fleet: str
) -> None:
    key = ("--key", f"{fleet}-key", "--queue", fleet)
    first = cli("submit", "greet", '{"name": "a"}', *key).out.strip()
    refused = cli.run("submit", "greet", '{"name": "b"}', *key)
    assert (refused.code, "exists with another payload" in refused.err) == (1, True)
    again = cli.run("submit", "greet", '{"name": "a"}', *key, "--on-duplicate", "refuse")
    assert (again.code, "is there already, queued" in again.err) == (1, True)
    replaced = cli(
        *("submit", "greet", '{"name": "b"}', "--key", f"{fleet}-key"),
        *("--on-duplicate", "replace", "--wait", "--json"),
    ).value
    assert (replaced["task_id"], replaced["state"], replaced["attempts"]) == (first, "completed", 1)
    assert "b" in replaced["result"]
    after = cli.run("submit", "greet", '{"name": "c"}', *key, "--on-duplicate", "replace")
    assert (after.code, "exists with another payload" in after.err) == (1, True)
    for words in (["--on-duplicate", "replace"], [*key, "--on-duplicate", "ask"]):
        assert cli.run("submit", "greet", *words).code == 2
