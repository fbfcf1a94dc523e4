"""`fleetlog credential`, and what `status` and SQL say of a pause."""

from __future__ import annotations

import json

from support.command_line import CommandLine


def test_a_pause_is_listed_shown_and_ended(cli: CommandLine) -> None:
    paused = cli("credential", "pause", "shared-key", "--for", "2h", "--reason", "keep the rest")
    assert "shared-key is paused until" in paused.err
    (row,) = [
        each
        for each in json.loads(cli("credential", "list", "--json").out)
        if each["credential"] == "shared-key"
    ]
    assert (row["state"], row["error_class"], row["reason"]) == (
        *("paused", "paused", "keep the rest"),
    )
    assert "shared-key is paused" in cli("status").out
    told = cli(
        "sql", "--fresh", "--format", "json", "FROM credentials WHERE credential = 'shared-key'"
    )
    (sql,) = json.loads(told.out)
    assert (sql["state"], sql["reason"], sql["allowances"]) == ("paused", "keep the rest", [])
    resumed = cli("credential", "resume", "shared-key")
    assert "shared-key is not paused" in resumed.err
    assert "shared-key" not in cli("status").out


def test_a_second_shorter_pause_leaves_the_longer_one(cli: CommandLine) -> None:
    cli("credential", "pause", "night", "--for", "8h")
    told = json.loads(cli("credential", "pause", "night", "--for", "1h", "--json").out)
    first = json.loads(cli("credential", "list", "--json").out)
    assert told["paused_until"] == next(
        each["paused_until"] for each in first if each["credential"] == "night"
    )
    cli("credential", "resume", "night")


def test_bad_names_and_durations_are_refused(cli: CommandLine) -> None:
    named = cli.run("credential", "pause", "my key")
    assert (named.code, "credential 'my key' is not valid" in named.err) == (2, True)
    timed = cli.run("credential", "pause", "k", "--for", "soon")
    assert (timed.code, "soon" in timed.err) == (2, True)
