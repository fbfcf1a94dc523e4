"""`fleetlog task answer`, and where questions are shown."""

from __future__ import annotations

import json
import subprocess
import sys

from support.command_line import CommandLine

LINE = '{"type": "need_input", "question": "which\\nbranch?", "choices": ["main", "dev"]}'
SCRIPT = f"[ -n \"$FLEETLOG_ANSWER\" ] && echo \"on $FLEETLOG_ANSWER\" || printf '%s\\n' '{LINE}'"
FREE = SCRIPT.replace(', "choices": ["main", "dev"]', "")


def asking(cli: CommandLine, fleet: str, script: str = SCRIPT) -> str:
    """A task that has asked."""
    task_id = cli("run", "--label", f"of={fleet}", "--", "sh", "-c", script).out.strip()
    # Each look is a process of its own, and takes its time.
    assert any(cli("task", "show", task_id, "--json").value["question"] for _ in range(100))
    return task_id


def test_a_question_is_shown_and_its_answer_moves_the_task_on(cli: CommandLine, fleet: str) -> None:
    task_id = asking(cli, fleet)
    shown = cli("task", "show", task_id, "--json").value
    assert (shown["state"], shown["question"]) == ("waiting", "which\nbranch?")
    assert shown["choices"] == ["main", "dev"]
    assert shown["asked_at"]
    text = cli("task", "show", task_id).out
    assert 'waits for  an answer to "which branch?" (main, dev): `fleetlog task answer' in text
    [row] = cli("task", "list", "--needs-input", "--label", f"of={fleet}", "--json").value
    assert (row["task_id"], row["question"]) == (task_id, "which\nbranch?")
    assert "which branch?" in cli("task", "list", "--needs-input", "--label", f"of={fleet}").out
    assert cli("status", "--json").value["needs_input"] >= 1
    assert "wait for an answer, see `fleetlog task list --needs-input`" in cli("status").out
    wrong = cli.run("task", "answer", task_id, "trunk")
    assert (wrong.code, "one of main, dev" in wrong.err) == (2, True)
    answered = cli("task", "answer", task_id, "dev")
    assert "it had asked: which branch?" in answered.out
    assert cli("task", "output", "--follow", task_id).code == 0
    done = cli("task", "show", task_id, "--json").value
    assert (done["state"], done["result"], done["question"]) == ("completed", "on dev", None)
    [given] = done["answers"]
    assert (given["answer"], bool(given["actor"])) == ("dev", True)
    assert 'answered   "which branch?" with dev, by ' in cli("task", "show", task_id).out
    again = cli.run("task", "answer", task_id, "main")
    assert (again.code, again.out) == (1, "")
    assert "the last question was answered 'dev' by" in again.err
    assert cli("task", "list", "--needs-input", "--label", f"of={fleet}", "--json").value == []


def test_an_answer_can_be_json_or_come_by_stdin(cli: CommandLine, fleet: str) -> None:
    by_json, by_stdin = asking(cli, fleet, FREE), asking(cli, fleet, FREE)
    said = cli("task", "answer", by_json, "--json-value", '{"n": 7}', "--json").value
    assert (said["task_id"], said["question"]) == (by_json, "which\nbranch?")
    piped = subprocess.run(
        [sys.executable, "-m", "fleetlog.cli", "task", "answer", by_stdin, "-"],
        input=b"a letter\nof two lines\n",
        env=cli.env(),
        check=False,
    )
    assert piped.returncode == 0
    for task_id in (by_json, by_stdin):
        assert cli("task", "output", "--follow", task_id).code == 0
    shown = [cli("task", "show", each, "--json").value for each in (by_json, by_stdin)]
    assert [each["answers"][0]["answer"] for each in shown] == [
        {"n": 7},
        "a letter\nof two lines",
    ]
    assert json.loads(shown[0]["result"].removeprefix("on ")) == {"n": 7}


def test_one_answer_and_no_more_is_given(cli: CommandLine) -> None:
    assert cli.run("task", "answer", "some-task").code == 2
    assert cli.run("task", "answer", "some-task", "a", "--json-value", "1").code == 2
    assert cli.run("task", "answer", "some-task", "--json-value", "{").code == 2
    missing = cli.run("task", "answer", "some-task", "a")
    assert (missing.code, "there is no task some-task" in missing.err) == (1, True)
