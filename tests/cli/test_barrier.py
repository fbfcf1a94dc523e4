"""`fleetlog barrier`, and what other commands tell of fan-outs and of tasks that wait for others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine

from fleetlog.cli.barrier import progress_bar

LATE = "06zzzzzzzzzzzzzzzzzzzzzzzz"


@pytest.fixture
def flags(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in ("one", "two", "three")]


def fan_out(cli: CommandLine, flags: list[Path], *args: str) -> Any:
    """Tasks that wait for files, on a queue with one's own name or not, without waiting."""
    lines = "".join(json.dumps({"path": str(flag)}) + "\n" for flag in flags)
    return cli("map", "until", "--items", "-", *args, "--json", stdin=lines.encode()).value


def wait_until(is_so: Callable[[], bool], timeout_s: float = 50) -> None:
    """Each look is a command of its own, so that it needs no sleep between them."""
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up_at


def shown(cli: CommandLine, task_id: str) -> Any:
    return cli("task", "show", task_id, "--json").value


def test_an_open_barrier_shows_how_far_it_is_and_who_is_missing(
    cli: CommandLine, flags: list[Path]
) -> None:
    flags[0].touch()
    opened = fan_out(cli, flags, "--then", "outcomes", "--deadline", "1h", "--priority", "high")
    barrier_id, (first, *others) = opened["barrier_id"], opened["task_ids"]
    then = opened["continuation_id"]
    cli("task", "output", "--follow", first)
    text = cli("barrier", "show", barrier_id).out
    assert f"{progress_bar(1, 3)} 1 of 3 settled, 1 completed" in text
    assert "policy     settled, stragglers cancel" in text
    assert "deadline" in text
    assert f"then       task {then}, outcomes: held" in text
    assert "missing: 2 of 3" in text
    assert all(task_id in text for task_id in others)
    assert first not in text
    value = cli("barrier", "show", barrier_id, "--json").value
    assert (value["state"], value["expected"], value["settled"]) == ("open", 3, 1)
    assert [member["task_id"] for member in value["members"]] == opened["task_ids"]
    [row] = [
        row
        for row in cli("barrier", "list", "--state", "open", "--json").value
        if row["barrier_id"] == barrier_id
    ]
    assert (row["settled"], row["continuation_id"]) == (1, then)
    assert barrier_id in cli("barrier", "list").out
    status = cli("status", "--json").value["open_barriers"]
    assert status >= 1
    assert f"{status} open, see `fleetlog barrier list --state open`" in cli("status").out

    held = shown(cli, then)
    assert held["waits_for"] == f"2 of 3 members of barrier {barrier_id}"
    assert (held["state"], held["continues"], held["barrier_id"]) == ("held", barrier_id, None)
    assert f"continues  barrier {barrier_id}" in cli("task", "show", then).out
    member = shown(cli, first)
    assert (member["barrier_id"], member["waits_for"]) == (barrier_id, None)
    assert member["priority"] == held["priority"] == "high"

    for flag in flags:
        flag.touch()
    ended = cli("task", "output", "--follow", then)
    assert ended.code == 0
    value = cli("barrier", "show", barrier_id, "--json").value
    assert (value["state"], value["settled"], value["succeeded"]) == ("released", 3, 3)
    assert value["continuation_state"] == "completed"
    text = cli("barrier", "show", barrier_id).out
    assert "missing" not in text
    assert "reason     all have settled: 3 of 3 settled, 3 completed" in text


def test_unknown_ids_and_states_are_told(cli: CommandLine) -> None:
    ran = cli.run("barrier", "show", LATE)
    assert (ran.code, ran.out) == (1, "")
    assert f"there is no barrier {LATE} in fleet" in ran.err
    assert cli.run("barrier", "show", "a b").code == 2
    ran = cli.run("barrier", "list", "--state", "closed")
    assert ran.code == 2
    assert "state 'closed' is not one of open, released, abandoned" in ran.err


def test_a_task_that_fanned_out_names_what_follows_and_its_cancel_ends_it(
    cli: CommandLine, flags: list[Path]
) -> None:
    paths = json.dumps({"paths": [str(flag) for flag in flags[:2]]})
    ran = cli.run("submit", "spread", paths, "--wait", "--wait-timeout", "2s", "--json")
    assert (ran.code, ran.value["state"]) == (4, "open")
    task_id = ran.value["task_id"]
    value = shown(cli, task_id)
    assert value["continuation_id"] == f"{task_id}-then"
    text = cli("task", "show", task_id).out
    assert f"fanned out barrier {task_id}, of 2 members, then task {task_id}-then" in text
    member = shown(cli, f"{task_id}-1")
    assert (member["barrier_id"], member["parent_id"]) == (task_id, task_id)
    assert cli("barrier", "show", task_id, "--json").value["parent_id"] == task_id
    ran = cli("task", "cancel", task_id, "--wait", "--wait-timeout", "50s", "--reason", "wrong day")
    assert "has fanned out; its members and what follows them have ended: cancelled" in ran.out
    states = [shown(cli, f"{task_id}-{what}")["state"] for what in (1, 2, "then")]
    assert states == ["cancelled"] * 3
    value = cli("barrier", "show", task_id, "--json").value
    assert (value["state"], value["why"], value["reason"]) == (
        "abandoned",
        "cancelled",
        "wrong day",
    )
    # There is nothing left to cancel.
    ran = cli.run("task", "cancel", task_id)
    assert ran.code == 1
    assert "already" in ran.err


def test_a_handler_that_gathers_names_what_it_waits_for(
    cli: CommandLine, flags: list[Path]
) -> None:
    task_id = cli("submit", "gatherer", json.dumps({"path": str(flags[0])})).out.strip()
    barrier_id = f"{task_id}-g1"
    says = f"1 of 2 members of barrier {barrier_id}"
    wait_until(lambda: shown(cli, task_id)["waits_for"] == says)
    assert f"waits for  {says}" in cli("task", "show", task_id).out
    assert cli("barrier", "show", barrier_id, "--json").value["parent_id"] == task_id
    flags[0].touch()
    cli("task", "output", "--follow", task_id)
    value = shown(cli, task_id)
    assert (value["state"], value["result"], value["waits_for"]) == ("completed", 2, None)


def test_after_holds_a_task_until_others_have_completed(
    cli: CommandLine, flags: list[Path], fleet: str
) -> None:
    first = cli("submit", "until", json.dumps({"path": str(flags[0])})).out.strip()
    one = cli("submit", "quiet", "--after", first).out.strip()
    both = cli("run", "--after", first, "--after", one, "--", "true").out.strip()
    value = shown(cli, one)
    assert (value["state"], value["after"]) == ("held", [first])
    assert value["waits_for"] == f"task {first}"
    assert shown(cli, both)["waits_for"] == f"2 of 2 tasks: {first}, {one}"
    text = cli("task", "show", both).out
    assert f"after      {first}, {one}" in text
    flags[0].touch()
    cli("task", "output", "--follow", both)
    assert shown(cli, both)["state"] == "completed"

    ran = cli.run("submit", "quiet", "--after", LATE, "--key", fleet)
    assert (ran.code, ran.out) == (1, "")
    assert f"there is no task {LATE}" in ran.err
    assert cli.run("submit", "quiet", "--after", "a b").code == 2
    assert cli.run("task", "show", fleet).code == 1
