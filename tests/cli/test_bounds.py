"""`fleetlog limit` and `fleetlog budget`: setting, listing, and what `task show` says of those that wait."""

from __future__ import annotations

import json

import pytest
from support.command_line import CommandLine


def waits_for(cli: CommandLine, task_id: str) -> str:
    return str(cli("task", "show", task_id, "--json").value["waits_for"])


def row(cli: CommandLine, noun: str, key: str) -> dict[str, object]:
    [found] = [each for each in cli(noun, "list", "--json").value if each["key"] == key]
    return dict(found)


def until(cli: CommandLine, task_id: str, state: str) -> None:
    while cli("task", "show", task_id, "--json").value["state"] != state:
        pass


def test_a_limit_is_set_listed_and_named_by_what_waits_for_it(cli: CommandLine, fleet: str) -> None:
    said = cli("limit", "set", fleet, "--concurrency", "1", "--reason", "a small door", "--json")
    assert said.value["concurrency"] == 1
    holder = cli("run", "--limit", fleet, "--", "sleep", "600").out.strip()
    until(cli, holder, "claimed")
    waiting = cli("run", "--limit", fleet, "--", "true").out.strip()
    assert waits_for(cli, waiting) == f"limit {fleet} (1 of 1)"
    assert f"limit {fleet} (1 of 1)" in cli("task", "show", waiting).out
    found = row(cli, "limit", fleet)
    assert (found["holders"], found["waiting"], found["reason"]) == (1, 1, "a small door")
    [line] = [each for each in cli("limit", "list").out.splitlines() if each.startswith(fleet)]
    assert "1 at once" in line
    cli("task", "cancel", holder)
    outcome = cli("task", "show", waiting, "--json").value
    while outcome["state"] != "completed":
        outcome = cli("task", "show", waiting, "--json").value
    assert outcome["limits"] == [fleet]
    assert cli("limit", "set", fleet, "--none").err == f"limit {fleet}: nothing is bounded\n"


def test_a_rate_is_written_as_people_say_it(cli: CommandLine, fleet: str) -> None:
    said = cli("limit", "set", fleet, "--rate", "60/1m", "--burst", "5")
    assert said.err == f"limit {fleet}: 60 starts in 1m, 5 at once after a pause\n"
    assert cli("limit", "set", fleet, "--rate", "5/s", "--json").value["per_ms"] == 1000


def test_a_task_under_a_limit_that_nobody_set_is_refused(cli: CommandLine, fleet: str) -> None:
    cli("limit", "set", f"{fleet}-github", "--concurrency", "3")
    refused = cli.run("submit", "quiet", "--limit", f"{fleet}-gihub")
    assert refused.code == 1
    assert f"did you mean '{fleet}-github'?" in refused.err
    refused = cli.run("run", "--budget", f"{fleet}-none", "--", "true")
    assert (refused.code, "fleetlog budget set" in refused.err) == (1, True)


def test_a_budget_holds_and_is_raised(cli: CommandLine, fleet: str) -> None:
    cli("budget", "set", fleet, "--usd", "0.50", "--tokens", "1k")
    printed = json.dumps({"type": "usage", "cost_usd": 0.75})
    spending = ("run", "--budget", fleet, "--")
    cli(*spending[:-1], "--wait", "--", "echo", printed)
    waiting = cli(*spending, "echo", printed).out.strip()
    while "0.75 USD" not in (says := waits_for(cli, waiting)):
        pass
    assert says == f"budget {fleet} (0.75 USD of 0.50 USD)"
    found = row(cli, "budget", fleet)
    assert (found["state"], found["exhausted_resource"]) == ("exhausted", "cost")
    assert (found["spent_cost_usd"], found["open_tasks"]) == (0.75, 1)
    [line] = [each for each in cli("budget", "list").out.splitlines() if each.startswith(fleet)]
    assert "used up (cost)" in line
    said = cli("budget", "set", fleet, "--usd", "2.50", "--then", "stop")
    assert said.err == f"budget {fleet}: 2.50 USD, then stop\n"
    until(cli, waiting, "completed")
    assert row(cli, "budget", fleet)["spent_cost_usd"] == 1.5


def test_a_tree_has_a_budget_of_its_own(cli: CommandLine, fleet: str) -> None:
    usage = json.dumps({"type": "usage", "output_tokens": 700})
    child = {"argv": ["sh", "-c", 'sleep 0.2; echo "$0"', usage]}
    line = json.dumps({"type": "fan_out", "members": [child] * 6})
    root = cli("run", "--tree-budget", "tokens=1k,then=stop", "--", "echo", line).out.strip()
    while (
        row(cli, "budget", root)["state"] != "exhausted" or row(cli, "budget", root)["open_tasks"]
    ):
        pass
    states = cli(
        "sql", f"SELECT state FROM tasks WHERE parent_id = '{root}'", "--fresh", "--format", "json"
    )
    found = [each["state"] for each in states.value]
    assert len(found) == 6
    assert set(found) == {"completed", "cancelled"}
    assert 2 <= found.count("completed") <= 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["limit", "set", "k"], "give --concurrency, --rate or both; or --none alone"),
        (["limit", "set", "k", "--none", "--rate", "1/s"], "or --none alone"),
        (["limit", "set", "k", "--concurrency", "1", "--burst", "2"], "--burst goes with --rate"),
        (["limit", "set", "k", "--rate", "often"], "'often' is not a rate"),
        (["limit", "set", "k", "--rate", "3/0s"], "leaves no time"),
        (["budget", "set", "k"], "a budget needs an amount"),
        (["budget", "set", "k", "--usd", "a lot"], "'a lot' is not an amount of US dollars"),
        (["budget", "set", "k", "--usd", "-1"], "'-1' is not an amount of US dollars"),
        (["budget", "set", "k", "--tokens", "3G"], "'3G' is not a number of tokens"),
        (["budget", "set", "k", "--usd", "1", "--then", "cry"], "'cry' is not one of warn, hold, stop"),
        (["submit", "h", "--tree-budget", "money=1"], "is not understood at 'money=1'"),
        (["submit", "h", "--limit", ""], "a key must have 1 to 1024 characters"),
    ],
)  # fmt: skip
def test_what_can_not_be_set_is_said_before_anything_is_written(
    nowhere: CommandLine, words: list[str], says: str
) -> None:
    refused = nowhere.run(*words)
    assert refused.code == 2
    assert says in refused.err


def test_what_a_message_says_lets_a_command_under_a_limit_that_nobody_has_set(
    cli: CommandLine, fleet: str
) -> None:
    ran = cli.run("run", "--limit", f"none-{fleet}", "--", "true")
    assert ran.code == 1
    assert "--unchecked submits the task all the same" in ran.err
    words = ("--unchecked", "--wait", "--json")
    assert (
        cli("run", *words, "--limit", f"none-{fleet}", "--", "true").value["state"] == "completed"
    )
