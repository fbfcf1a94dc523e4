"""`fleetlog dead`: what has failed for good, and its revival."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.command_line import CommandLine


def fail(cli: CommandLine, text: str, fleet: str, *more: str) -> str:
    label = ("--label", f"test={fleet}")
    args = ("submit", "boom", f'{{"text": "{text}"}}', *label, *more, "--wait", "--json")
    return str(cli.run(*args).value["task_id"])


def listed(cli: CommandLine, fleet: str, *more: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = cli(
        "dead", "list", "--label", f"test={fleet}", "--json", *more
    ).value
    return rows


def test_list_groups_by_class_and_first_line(cli: CommandLine, fleet: str) -> None:
    one = fail(cli, "no disk\\nsee the host 1", fleet)
    two = fail(cli, "no disk\\nsee the host 2", fleet)
    three = fail(cli, "no net", fleet)
    groups = listed(cli, fleet)
    assert [(row["tasks"], row["error_class"]) for row in groups] == [
        (2, "permanent"),
        (1, "permanent"),
    ]
    assert "no disk" in groups[0]["error"]
    assert "host" not in groups[0]["error"]
    assert set(groups[0]["task_ids"]) == {one, two}
    assert (groups[1]["task_ids"], groups[1]["handlers"]) == ([three], ["boom"])
    assert listed(cli, fleet, "--error", "no net") == groups[1:]
    assert listed(cli, fleet, "--class", "timeout") == []
    assert "no disk" in cli("dead", "list", "--label", f"test={fleet}").out


def test_revive_makes_a_new_task_of_the_same_work(cli: CommandLine, fleet: str) -> None:
    dead = fail(cli, "once", fleet, "--key", fleet, "--priority", "high", "--max-attempts", "7")
    [row] = cli("dead", "revive", dead, "--reason", "try again", "--json").value
    assert (row["dead_id"], row["task_id"], row["duplicate"]) == (dead, f"{dead}-r1", False)
    new = cli("task", "show", f"{dead}-r1", "--json").value
    old = cli("task", "show", dead, "--json").value
    first, was = new["events"][0], old["events"][0]
    assert (first["cause"], first["reason"]) == (dead, "try again")
    assert first["actor"]
    assert was["spec"].pop("key") == fleet
    assert first["spec"] == was["spec"]
    assert first["digest"] == was["digest"]
    # The key is the dead one's still.
    again = cli.run("submit", "boom", '{"text": "once"}', "--key", fleet, "--json")
    assert (again.value["task_id"], again.value["duplicate"]) == (dead, True)


def test_a_revived_task_that_fails_is_revived_along_the_line(cli: CommandLine, fleet: str) -> None:
    dead = fail(cli, "always", fleet)
    cli("dead", "revive", dead)
    cli("task", "output", "--follow", f"{dead}-r1")
    assert [row["task_ids"] for row in listed(cli, fleet)] == [[f"{dead}-r1"]]
    assert f"is revived as {dead}-r2" in cli("dead", "revive", f"{dead}-r1").out
    cli("task", "output", "--follow", f"{dead}-r2")
    assert f"is revived as {dead}-r3" in cli("dead", "revive", dead).out
    causes = cli(
        *("sql", "--fresh", "--format", "json"),
        f"SELECT task_id, cause FROM events WHERE task_id LIKE '{dead}%' AND cause IS NOT NULL",
    ).value
    assert [row["cause"] for row in causes] == [dead, f"{dead}-r1", f"{dead}-r2"]


def test_all_that_fit_are_revived_once(cli: CommandLine, fleet: str) -> None:
    dead = {fail(cli, f"text {n}", fleet) for n in range(3)}
    args = ("dead", "revive", "--label", f"test={fleet}", "--class", "permanent")
    ran = cli.run(*args)
    assert ran.code == 2
    assert "would revive 3 tasks" in ran.err
    dry = cli(*args, "--dry-run", "--json").value
    assert {row["dead_id"] for row in dry} == dead
    rows = cli(*args, "--yes", "--json").value
    assert {row["task_id"] for row in rows} == {f"{task_id}-r1" for task_id in dead}
    for row in rows:
        cli("task", "output", "--follow", row["task_id"])
    assert {task_id for row in listed(cli, fleet) for task_id in row["task_ids"]} == {
        f"{task_id}-r1" for task_id in dead
    }


def test_reviving_at_once_makes_one_task(cli: CommandLine, fleet: str) -> None:
    dead = fail(cli, "race", fleet)
    # On a queue that is paused, the new one stays unsettled while they race.
    cli("queue", "pause", "default")
    try:
        racers = [cli.start("dead", "revive", dead, "--json") for _ in range(4)]
        outs = [racer.communicate(timeout=60)[0] for racer in racers]
        rows = [row for out in outs for row in msgspec.json.decode(out)]
        assert {row["task_id"] for row in rows} == {f"{dead}-r1"}
        assert sorted(row["duplicate"] for row in rows) == [False, True, True, True]
        assert {row["seq"] for row in rows} == {rows[0]["seq"]}
    finally:
        cli("queue", "resume", "default")
    assert cli.run("task", "show", f"{dead}-r2").code == 1


def test_what_has_not_failed_is_refused(cli: CommandLine, fleet: str) -> None:
    done = cli("submit", "quiet", "--wait", "--json").value["task_id"]
    ran = cli.run("dead", "revive", done, "none-such", fail(cli, "x", fleet), "--json")
    assert ran.code == 1
    assert f"task {done} is completed, not failed" in ran.err
    assert "there is no task none-such" in ran.err
    assert len(ran.value) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "or say --all"),
        (["x", "--all"], "not both"),
        (["a b"], "is not valid"),
        (["--label", "x"], "is not NAME=VALUE"),
    ],
    ids=" ".join,
)
def test_wrong_words_are_usage(nowhere: CommandLine, args: list[str], says: str) -> None:
    ran = nowhere.run("dead", "revive", *args)
    assert ran.code == 2, ran.err
    assert says in ran.err
