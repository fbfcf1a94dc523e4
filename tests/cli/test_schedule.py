"""`fleetlog schedule`: adding, listing, pausing and removing, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.command_line import CommandLine


@contextmanager
def added(cli: CommandLine, name: str, *args: str) -> Iterator[dict[str, Any]]:
    """A schedule of a test's own: it goes when the test ends, as all tests share one fleet."""
    try:
        value = cli("schedule", "add", name, "--json", *args).value
        yield value
    finally:
        cli.run("schedule", "remove", name)


def row_of(cli: CommandLine, name: str) -> dict[str, Any] | None:
    rows = [row for row in cli("schedule", "list", "--json").value if row["name"] == name]
    return rows[0] if rows else None


def wait_made(cli: CommandLine, name: str, count: int) -> list[str]:
    """The ids of the first tasks, once there are so many."""
    statement = f"SELECT task_id FROM tasks WHERE schedule = '{name}' ORDER BY task_id"
    for _ in range(100):
        rows = cli("sql", "--fresh", "--format", "json", statement).value
        if len(rows) >= count:
            return [row["task_id"] for row in rows]
    raise AssertionError(f"{name} has made {rows} only")


def test_a_schedule_makes_tasks_that_run_and_say_so(cli: CommandLine, fleet: str) -> None:
    words = ("--every", "1s", "--label", f"of={fleet}", "add", '{"a": 1, "b": 2}')
    with added(cli, fleet, *words) as value:
        assert (value["name"], value["state"], value["changed"]) == (fleet, "active", True)
        assert (value["every_ms"], value["handler"]) == (1_000, "add")
        assert len(value["next"]) == 3
        first = wait_made(cli, fleet, 2)[0]
        row = row_of(cli, fleet)
        assert row is not None
        assert row["tasks"] >= 2
        assert row["last_task_id"].startswith(f"{fleet}-2")
        assert row["last_task_state"] in ("queued", "claimed", "completed")
        text = cli("schedule", "list").out
        assert re.search(rf"{fleet} +active +every 1s", text)
    at = datetime.fromisoformat(value["next"][0]["at"])
    # The first instant may have passed between the append and the look at what comes next.
    instants = (at, at - timedelta(seconds=1))
    assert first in [f"{fleet}-{each:%Y%m%dT%H%M%S}Z" for each in instants]
    cli("task", "output", "--follow", first)
    shown = cli("task", "show", first, "--json").value
    assert (shown["schedule"], shown["state"], shown["result"]) == (fleet, "completed", 3)
    assert shown["labels"] == {"of": fleet}
    assert re.search(rf"^schedule +{fleet}$", cli("task", "show", first).out, re.MULTILINE)
    assert row_of(cli, fleet) is None


def test_a_command_stands_behind_two_dashes(cli: CommandLine, fleet: str) -> None:
    words = ("--every", "1s", "--env", "LEVEL=7", "--", "sh", "-c", "echo level $LEVEL; exit 0")
    with added(cli, fleet, *words) as value:
        assert (value["executor"], value["handler"]) == ("command", "sh")
        [first, *_] = wait_made(cli, fleet, 1)
    assert cli("task", "output", "--follow", first).out == "level 7\n"


def test_the_next_instants_are_told_in_the_zone_and_in_utc(cli: CommandLine, fleet: str) -> None:
    words = ("quiet", "--cron", "30 2 * * *", "--zone", "Asia/Tokyo")
    try:
        ran = cli("schedule", "add", fleet, *words)
        lines = ran.out.splitlines()
        assert lines[0] == f"schedule {fleet} is set: cron 30 2 * * * in Asia/Tokyo"
        assert len(lines) == 4
        for line in lines[1:]:
            assert re.fullmatch(
                r"next  \w{3} [-\d]{10} 02:30:00 JST  [-\d]{10} 17:30:00\.000Z", line
            )
        row = row_of(cli, fleet)
        assert row is not None
        assert (row["cron"], row["zone"], row["overlap"]) == ("30 2 * * *", "Asia/Tokyo", "allow")
        assert row["next"][0]["local"].endswith("T02:30:00+09:00")
        assert row["last_task_id"] is None
        assert f"schedule {fleet} is set already" in cli("schedule", "add", fleet, *words).out
    finally:
        cli("schedule", "remove", fleet)


def test_another_one_of_the_same_name_needs_replace(cli: CommandLine, fleet: str) -> None:
    with added(cli, fleet, "quiet", "--every", "1h"):
        ran = cli.run("schedule", "add", fleet, "quiet", "--every", "2h")
        assert ran.code == 1
        assert f"schedule {fleet} is there with another rule or task" in ran.err
        assert "--replace" in ran.err
        again = cli("schedule", "add", fleet, "quiet", "--every", "1h", "--json").value
        assert again["changed"] is False
        cli("schedule", "pause", fleet)
        ran = cli("schedule", "add", fleet, "quiet", "--every", "2h", "--replace")
        assert f"schedule {fleet} is set: every 2h" in ran.out
        # Who paused it had a reason.
        assert f"it is paused: `fleetlog schedule resume {fleet}` ends that" in ran.out
        row = row_of(cli, fleet)
        assert row is not None
        assert (row["every_ms"], row["state"], row["next"]) == (7_200_000, "paused", [])


def test_pause_resume_and_remove_tell_how_it_stands(cli: CommandLine, fleet: str) -> None:
    with added(cli, fleet, "quiet", "--every", "1h"):
        paused = cli("schedule", "pause", fleet, "--reason", "too hot", "--json").value
        assert (paused["state"], paused["reason"], paused["changed"]) == ("paused", "too hot", True)
        assert paused["actor"]
        assert cli("schedule", "pause", fleet).out == f"schedule {fleet} is paused already\n"
        told = cli(
            *("sql", "--fresh", "--format", "json"),
            f"SELECT state, reason, handler, every_ms FROM schedules WHERE name = '{fleet}'",
        ).value
        assert told == [
            {"state": "paused", "reason": "too hot", "handler": "quiet", "every_ms": 3_600_000}
        ]
        assert f"{fleet}  paused (too hot)  every 1h" in cli("schedule", "list").out
        resumed = cli("schedule", "resume", fleet).out
        assert resumed.startswith(f"schedule {fleet} is resumed\nnext  ")
        assert cli("schedule", "resume", fleet).out.startswith(f"schedule {fleet} is not paused\n")
        assert cli("schedule", "remove", fleet).out == f"schedule {fleet} is removed\n"
        assert cli("schedule", "remove", fleet).out == f"schedule {fleet} is removed already\n"
        ran = cli.run("schedule", "pause", fleet)
        assert ran.code == 1
        assert f"there is no schedule {fleet}" in ran.err
        cli("schedule", "add", fleet, "quiet", "--every", "2h")


def test_without_schedules_the_list_says_how_to_make_one(cli: CommandLine, fleet: str) -> None:
    ran = cli("--fleet", fleet, "schedule", "list")
    assert "`fleetlog schedule add` makes one" in ran.err
    assert cli("--fleet", fleet, "schedule", "list", "--json").value == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("quiet",), "either cron or every"),
        (("quiet", "--cron", "* * * * *", "--every", "1s"), "either cron or every"),
        (("quiet", "--cron", "61 * * * *"), "'61' is no minute"),
        (("quiet", "--cron", "* * * *"), "must have five fields"),
        (("quiet", "--cron", "0 0 30 2 *"), "'30' is no day-of-month"),
        (("quiet", "--cron", "* * * * *", "--zone", "Mars"), "zone 'Mars' is not known"),
        (("quiet", "--every", "10m", "--zone", "Europe/Berlin"), "--zone goes with --cron"),
        (("quiet", "--every", "10"), "every '10' is not a duration"),
        (("quiet", "--every", "500ms"), "every must be at least 1s"),
        (("quiet", "--every", "1h", "--overlap", "queue"), "overlap 'queue' is not one of"),
        (("quiet", "[]", "--every", "1h"), "must be one JSON object"),
        (("--every", "1h"), "what shall its tasks do?"),
        (("quiet", "--every", "1h", "--", "true"), "one kind of task"),
        (("quiet", "--every", "1h", "--env", "A=b"), "--env is for commands"),
        (("quiet", "--every", "1h", "--prompt", "do it"), "--prompt goes with --executor"),
        (("--every", "1h", "--executor", "claude"), "needs --prompt"),
        (("--every", "1h", "--"), "CMD ARG"),
        (("quiet", "--every", "1h", "--timeout", "soon"), "timeout 'soon' is not a duration"),
        (("quiet", "--every", "1h", "--key", "k"), "--key"),
    ],
)
def test_what_is_wrong_is_usage_before_there_is_a_bus(
    nowhere: CommandLine, words: tuple[str, ...], says: str
) -> None:
    ran = nowhere.run("schedule", "add", "s", *words)
    assert ran.code == 2
    assert says in ran.err


def test_a_name_that_is_none_is_usage(nowhere: CommandLine) -> None:
    for words in (("add", "a b", "quiet", "--every", "1h"), ("remove", "x" * 65)):
        ran = nowhere.run("schedule", *words)
        assert ran.code == 2
        assert "schedule '" in ran.err


def test_a_handler_that_nobody_has_is_refused_unless_unchecked(
    cli: CommandLine, fleet: str
) -> None:
    ran = cli.run("schedule", "add", fleet, "ad", "--every", "1h")
    assert ran.code == 1
    assert "did you mean add?" in ran.err.lower()
    ran = cli.run("schedule", "add", fleet, "add", '{"c": 1}', "--every", "1h")
    assert ran.code == 2
    assert row_of(cli, fleet) is None
    with added(cli, fleet, "ad", "--every", "1h", "--unchecked") as value:
        assert value["handler"] == "ad"


def test_a_prompt_can_be_scheduled(cli: CommandLine, fleet: str) -> None:
    words = ("--cron", "0 8 * * mon-fri", "--executor", "claude", "--prompt", "look around")
    with added(cli, fleet, *words) as value:
        assert (value["executor"], value["handler"]) == ("claude", "claude")


def test_a_schedules_tasks_wait_for_room_and_for_agents_as_others_do(
    cli: CommandLine, fleet: str
) -> None:
    cli("limit", "set", fleet, "--concurrency", "1")
    waiting = ("--limit", fleet, "--fair-key", "a", "--tree-budget", "usd=1")
    labels = ("--requires", f"none={fleet}", "--affinity", "here", "--affinity-wait", "1m")
    with added(cli, fleet, "--every", "1s", *waiting, *labels, "--", "true"):
        first = wait_made(cli, fleet, 1)[0]
    shown = cli("task", "show", first).out
    assert re.search(rf"^waits for +an agent with none={fleet};", shown, re.MULTILINE), shown
    value = cli("task", "show", first, "--json").value
    assert value["state"] == "held"
    cli("task", "cancel", first)
    ran = cli.run("schedule", "add", fleet, "--every", "1h", "--limit", f"no-{fleet}", "--", "true")
    assert ran.code == 1
    assert f"nobody has set a limit 'no-{fleet}'" in ran.err
