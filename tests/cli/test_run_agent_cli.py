"""`fleetlog run --executor claude`, with the mock of it."""

from __future__ import annotations

from pathlib import Path

from support.command_line import CommandLine

CLAUDE = ("run", "--executor", "claude")


def test_wait_prints_what_it_answered(cli: CommandLine, tmp_path: Path) -> None:
    prompt = tmp_path / "task.md"
    prompt.write_text("x" * 100)
    assert cli(*CLAUDE, "--prompt", "hello", "--wait").out == "answer to 5 characters\n"
    assert cli(*CLAUDE, "--prompt", f"@{prompt}", "--wait").out == "answer to 100 characters\n"
    piped = cli(*CLAUDE, "--prompt", "-", "--wait", stdin="äö".encode())
    assert piped.out == "answer to 2 characters\n"


def test_options_reach_it_and_so_does_what_follows_the_dashes(cli: CommandLine) -> None:
    ran = cli(
        *(*CLAUDE, "--prompt", "[mock:echo]", "--model", "opus", "--max-budget-usd", "2"),
        *("--resume", "s-1", "--wait", "--json", "--", "--permission-mode", "acceptEdits"),
    )
    argv = '["-p", "--output-format", "stream-json", "--verbose", "--resume", "s-1", "--model", "opus",'
    argv += ' "--max-budget-usd", "2", "--permission-mode", "acceptEdits"]'
    assert argv in ran.value["result"]


def test_show_tells_session_and_cost_of_each_attempt(cli: CommandLine) -> None:
    ran = cli(*CLAUDE, "--prompt", "[mock:limit]", "--wait", "--json")
    task_id = ran.value["task_id"]
    attempts = cli("task", "show", task_id, "--json").value["attempts"]
    assert [(row["outcome"], row["error_class"], row["cost_usd"]) for row in attempts] == [
        ("returned", "usage_limit", 0.005),
        ("completed", None, 0.005),
    ]
    text = cli("task", "show", task_id).out
    for row in attempts:
        assert f"session {row['session_id']}" in text
    assert text.count("$0.0050") == 2


def test_one_that_fails_is_exit_code_1_and_says_why(cli: CommandLine) -> None:
    ran = cli.run(*CLAUDE, "--prompt", "[mock:max_turns]", "--wait")
    assert ran.code == 1
    assert "failed after 1 attempt (max_turns): Reached maximum number of turns" in ran.err


def test_cost_can_be_asked_for(cli: CommandLine) -> None:
    task_id = cli(*CLAUDE, "--prompt", "hello", "--wait", "--json").value["task_id"]
    sql = f"SELECT model, input_tokens, cost_usd FROM attempts WHERE task_id = '{task_id}'"
    (row,) = cli("sql", "--fresh", "--format", "json", sql).value
    assert (row["model"], row["input_tokens"], float(row["cost_usd"])) == (
        *("claude-opus-5-5", 1000),
        0.005,
    )
