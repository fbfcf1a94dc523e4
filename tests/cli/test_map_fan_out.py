"""`fleetlog map` with --then or --policy: one fan-out."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import CommandLine

LINES = b'{"a": 1}\n{"a": 2, "b": 5}\n{"a": 3}\n'


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_bytes(LINES)
    return path


def opened(cli: CommandLine) -> int:
    """How many fan-outs the log has."""
    question = "SELECT count(*) AS n FROM barriers"
    count: int = cli("sql", "--fresh", "--format", "json", question).value[0]["n"]
    return count


def test_then_runs_with_every_outcome_and_its_result_is_printed(
    cli: CommandLine, items: Path
) -> None:
    ran = cli("map", "add", "--items", str(items), "--then", "outcomes", "--wait")
    assert ran.out == '[["completed",2],["completed",7],["completed",4]]\n'
    assert ran.err == "3 items: 3 completed\n"


def test_wait_json_has_the_shape_that_scripts_rely_on(cli: CommandLine, items: Path) -> None:
    args = ("map", "add", "--items", str(items), "--then", "outcomes", "--wait", "--json")
    value = cli(*args).value
    children, continuation = value.pop("children"), value.pop("continuation")
    barrier_id = value.pop("barrier_id")
    assert value == {"state": "completed", "succeeded": 3, "failed": 0}
    assert [child.pop("task_id") for child in children] == [f"{barrier_id}-{n}" for n in (1, 2, 3)]
    assert children == [
        {"state": "completed", "result": result, "error": None, "attempts": 1}
        for result in (2, 7, 4)
    ]
    assert continuation["task_id"] == f"{barrier_id}-then"
    assert continuation["result"] == [["completed", 2], ["completed", 7], ["completed", 4]]


def test_ids_are_on_stdout_and_the_barrier_is_named(cli: CommandLine) -> None:
    args = ("map", "add", "--items", "-", "--then", "outcomes", "--label", "team=search")
    ran = cli(*args, stdin=LINES)
    first, *_ = task_ids = ran.out.split()
    assert len(task_ids) == 3
    barrier_id = first.removesuffix("-1")
    assert f"barrier {barrier_id} waits for 3 tasks, then task {barrier_id}-then follows" in ran.err
    labels = [
        cli("task", "show", each, "--json").value["labels"]
        for each in (first, f"{barrier_id}-then")
    ]
    assert labels[0] == labels[1]
    assert labels[0]["team"] == "search"
    value = cli(*args, "--json", stdin=LINES).value
    assert (value["submitted"], len(value["task_ids"])) == (3, 3)
    assert value["continuation_id"] == f"{value['barrier_id']}-then"


def test_a_policy_without_a_continuation_prints_results(cli: CommandLine) -> None:
    args = ("map", "add", "--items", "-", "--unchecked", "--wait")
    lines = b'{"a": 1}\n{"a": "x"}\n'
    ran = cli(*args, "--policy", "settled", stdin=lines)
    assert ran.out == "2\nnull\n"
    assert "item 2, task" in ran.err
    assert "2 items: 1 completed, 1 failed" in ran.err
    ran = cli.run(*args, "--policy", "all", stdin=lines)
    assert ran.code == 1
    assert "too few for all" in ran.err
    ran = cli.run(*args, "--policy", "all", "--then", "outcomes", "--json", stdin=lines)
    assert (ran.code, ran.value["state"]) == (1, "failed")
    assert (ran.value["failed"], ran.value["continuation"]["state"]) == (1, "failed")
    ran = cli(*args, "--policy", "quorum=1", "--then", "outcomes", "--json", stdin=lines)
    assert ran.value["state"] == "completed"


def test_wait_timeout_is_exit_code_4_and_a_deadline_ends_it(cli: CommandLine, fleet: str) -> None:
    args = ("map", "quiet", "--items", "-", "--queue", fleet, "--policy", "settled", "--wait")
    ran = cli.run(*args, "--wait-timeout", "200ms", "--json", stdin=b"{}")
    assert (ran.code, ran.value["state"]) == (4, "running")
    assert [child["state"] for child in ran.value["children"]] == ["queued"]
    assert ran.value["continuation"] is None
    assert f"`fleetlog barrier show {ran.value['barrier_id']}`" in ran.err
    cli("task", "cancel", ran.value["children"][0]["task_id"])
    value = cli(*args, "--deadline", "300ms", "--json", stdin=b"{}").value
    assert [child["state"] for child in value["children"]] == ["cancelled"]


def test_progress_is_shown_on_a_terminal(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(str(number) for number in range(1000)))
    args = ("--arg", "a", "--then", "outcomes", "--wait")
    ran = cli.on_terminal("map", "add", "--items", str(path), *args)
    assert ran.code == 0
    assert "submitted 1001/1001  running" in ran.out
    assert "1000 items: 1000 completed" in ran.out


def test_no_items_are_released_at_once(cli: CommandLine) -> None:
    ran = cli("map", "add", "--items", "-", "--then", "outcomes", "--wait", stdin=b"\n")
    assert (ran.out, ran.err) == ("[]\n", "there were no items\n")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--deadline", "1m"], "--deadline goes with --then or --policy"),
        (["--stragglers", "wait"], "--stragglers goes with --then or --policy"),
        (["--policy", "most"], "policy 'most' is not one of settled, all, any, quorum=K"),
        (["--policy", "quorum"], "a quorum is a whole number"),
        (["--policy", "quorum=0"], "a quorum is a whole number"),
        (["--policy", "quorum=4"], "the policy quorum needs 4 of 3 members: it can never be met"),
        (
            ["--policy", "all", "--stragglers", "kill"],
            "stragglers 'kill' is not one of cancel, wait",
        ),
        (["--policy", "all", "--deadline", "0s"], "the deadline leaves no time"),
        (["--policy", "all", "--deadline", "soon"], "deadline"),
        (["--then", ""], "handler"),
        (["--then", "outcomes", "--key-field", "z"], "line 1: the item needs a 'z'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_options_are_usage(cli: CommandLine, items: Path, args: list[str], says: str) -> None:
    before = opened(cli)
    for path in (str(items), "-"):
        ran = cli.run("map", "add", "--items", path, *args, stdin=LINES)
        assert (ran.code, ran.out) == (2, ""), ran.err
        assert says in ran.err
        assert "Traceback" not in ran.err
    assert opened(cli) == before


def test_nothing_is_written_unless_all_of_it_can_be(cli: CommandLine) -> None:
    before = opened(cli)
    args = ("map", "add", "--items", "-")
    ran = cli.run(*args, "--then", "outcomes", stdin=b'{"a": 1}\n{"a": "x"}\n')
    assert (ran.code, ran.out) == (2, "")
    assert "stdin, line 2: the arguments do not fit handler add" in ran.err
    ran = cli.run(*args, "--then", "outcome", stdin=LINES)
    assert (ran.code, ran.out) == (1, "")
    assert "did you mean outcomes?" in ran.err
    twice = b'{"a": 1}\n{"a": 1}\n'
    ran = cli.run(*args, "--then", "outcomes", "--key-field", "a", stdin=twice)
    assert ran.code == 2
    assert "members 1 and 2 are one task" in ran.err
    assert opened(cli) == before
